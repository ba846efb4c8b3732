"""What the processor sleep says of requests, ticks and what is none."""

import json
from collections import Counter
from typing import Any

import pytest

from agents.kit import Driver
from agents.sleep import law
from agents.sleep.agent import AUDIT, PROCESSOR, STATUS
from tests.unit.agents.sleep.samples import BLANK
from topics import codec

SECOND = 1_000_000


def request(target: str = "deep", **more: Any) -> dict[str, Any]:
    return BLANK | {"tenant": "a", "target": target} | more


def told(driver: Driver) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The states entered since the last call, and what the audit says of requests."""
    found = [(one.topic, one.record) for one in driver.take()]
    states = [one for topic, one in found if topic == STATUS and one is not None]
    audit = [one for topic, one in found if topic == AUDIT and one is not None]
    assert all(one["subject"] == one["tenant"] == "a" for one in audit)
    return states, [json.loads(one["detail"]) | {"actor": one["actor"]} for one in audit]


def test_a_deeper_sleep_enters_each_state_on_the_way_and_is_answered_once() -> None:
    driver = Driver(PROCESSOR)
    driver.send(request("FREEZE", ttl_seconds=60, actor="eva"))
    states, (said,) = told(driver)
    assert [(one["state"], one["version"]) for one in states] == [
        ("light", 1), ("deep", 2), ("freeze", 3),
    ]  # fmt: skip
    assert {one["wake_at"] for one in states} == {driver.time + 60 * SECOND}
    assert [one["k"] for one in states] == [60, 20, 1] and states[2]["b"] == 5.5
    assert (said["outcome"], said["from"], said["state"]) == ("changed", "active", "freeze")
    assert (said["request_id"], said["actor"], said["version"]) == ("one", "eva", 3)


def test_a_sleep_ends_at_its_time_and_not_before() -> None:
    driver = Driver(PROCESSOR)
    driver.send(request(ttl_seconds=60))
    ends = driver.time + 60 * SECOND
    driver.restart()
    told(driver)
    driver.tick(ends - 1)
    assert told(driver) == ([], []) and driver.rows["a"]["state"] == "deep"
    driver.tick(ends)
    driver.send_all([])
    (state,), (said,) = told(driver)
    assert (state["state"], state["reason"], state["since"]) == ("active", "expiry", ends)
    assert (said["outcome"], said["from"], said["kind"]) == ("changed", "deep", "expiry")


def test_a_sleep_without_an_end_is_never_forgotten() -> None:
    driver = Driver(PROCESSOR)
    driver.setting("forget_after_s", 60)
    driver.send(request())
    for day in range(1, 5):
        driver.tick(driver.time + day * 86_400 * SECOND)
    assert driver.rows["a"]["state"] == "deep"
    driver.send(request("active"))
    driver.tick(driver.time + 86_400 * SECOND)
    assert "a" not in driver.rows


def test_the_same_again_changes_nothing_and_another_end_prolongs() -> None:
    driver = Driver(PROCESSOR)
    driver.send_all([request(), request(), request(ttl_seconds=9), request(ttl_seconds=9)])
    states, audit = told(driver)
    assert [one["outcome"] for one in audit] == ["changed", "unchanged", "prolonged", "prolonged"]
    assert [one["version"] for one in states] == [1, 2, 3, 4]


def test_an_edge_that_isn_t_there_is_refused_with_the_reason() -> None:
    driver = Driver(PROCESSOR)
    driver.send_all([request(), request("light")])
    states, audit = told(driver)
    assert [one["state"] for one in states] == ["light", "deep"]
    assert (audit[1]["outcome"], audit[1]["state"]) == ("refused", "deep")
    assert audit[1]["why"] == "no way leads from deep to light: wake it first"
    assert not driver.dead_letters


def test_whoever_stands_lower_changes_nothing() -> None:
    driver = Driver(PROCESSOR)
    driver.send(request("light"))
    for kind in ("policy", "circuit"):
        driver.send(request("freeze", kind=kind))
        driver.send(request("active", kind=kind))
    driver.send(request("active", kind="traffic"))
    _, audit = told(driver)
    assert [one["outcome"] for one in audit[1:]] == ["refused"] * 5
    assert driver.rows["a"]["state"] == "light"


def test_what_is_no_request_is_a_dead_letter_and_answered() -> None:
    driver = Driver(PROCESSOR)
    bad = [request(ttl_seconds=0), request(ttl_seconds=10**6), request("coma")]
    driver.send_all(bad)
    text = json.dumps({"request_id": "j", "tenant": "a", "target": "deep", "kind": 5})
    driver.send_bytes([(b"a", text.encode()), (b"a", b"\xff\xff"), (b"a", None)])
    states, audit = told(driver)
    assert not states and "a" not in driver.rows
    assert [one.reason for one in driver.dead_letters][:3] == ["malformed"] * 3
    assert len(driver.dead_letters) == 6 == len(audit)
    assert audit[0]["why"] == "malformed: ttl_seconds: from 1 to 3600, not 0"
    assert [one["request_id"] for one in audit[:3]] == ["one"] * 3


def test_a_flood_of_requests_takes_what_a_tenant_may_have() -> None:
    driver = Driver(PROCESSOR)
    many = [request(("deep", "active")[k % 2], request_id=f"r{k}") for k in range(2000)]
    driver.send_all([*many, request("light", tenant="b")])
    assert len(driver.dead_letters) == 1900
    assert {one.reason for one in driver.dead_letters} == {"too_many"}
    assert driver.rows["a"]["version"] == 150 and driver.rows["b"]["state"] == "light"
    driver.time += 2 * SECOND
    driver.send(request())
    assert driver.rows["a"]["state"] == "deep"


@pytest.mark.timeout(600)
def test_a_second_s_hundred_thousand_requests_are_each_done_or_refused() -> None:
    driver, parts, size = Driver(PROCESSOR), 100, 1000
    pair = [(b"a", codec.encode("sleep_request", request(one))) for one in ("deep", "active")]
    for _ in range(parts):
        driver.send_bytes(pair * (size // 2))
        driver.time += SECOND // parts
    states, audit = told(driver)
    outcomes = Counter(one["outcome"] for one in audit)
    done = int(law.BURST + law.PER_S * (parts - 1) / parts)
    assert done == 149 and outcomes["changed"] + outcomes["unchanged"] == done
    assert outcomes["refused"] == parts * size - done
    assert Counter(one.reason for one in driver.dead_letters) == {"too_many": parts * size - done}
    assert len(states) == driver.rows["a"]["version"]


def test_traffic_that_ends_a_sleep_does_so_however_many_were_asked() -> None:
    driver = Driver(PROCESSOR)
    sleeps = [request("light", wake_on_traffic=True), *[request("light")] * 98]
    last = request("freeze", wake_on_traffic=True)
    wakes = [request("active", kind="traffic", version=k) for k in (2, 3, 4, 4)]
    driver.send_all([*sleeps, last, request("deep"), *wakes])
    assert [one.reason for one in driver.dead_letters] == ["too_many"] * 4
    states, _ = told(driver)
    assert driver.rows["a"]["state"] == "active" and states[-1]["reason"] == "traffic"


def test_a_circuit_s_waking_isn_t_counted_and_its_sleep_is() -> None:
    driver = Driver(PROCESSOR)
    many = [request(("freeze", "active")[k % 2], kind="circuit", version=k) for k in range(400)]
    driver.send_all(many)
    assert len(driver.dead_letters) == 200 and driver.rows["a"]["state"] == "active"
    assert driver.rows["a"]["version"] == 400  # a hundred sleeps of three states, each ended
    assert {one.reason for one in driver.dead_letters} == {"too_many"}


def test_what_an_older_owner_of_the_circuit_asks_for_is_refused() -> None:
    driver = Driver(PROCESSOR)
    for target, version in [("freeze", 7), ("light", 7), ("active", 9), ("freeze", 8)]:
        driver.send(request(target, kind="circuit", version=version))
    _, audit = told(driver)
    assert [one["outcome"] for one in audit] == ["changed"] * 3 + ["refused"]
    assert audit[3]["why"] == "it is number 8 of its circuit, and 9 came before"
    assert (driver.rows["a"]["state"], driver.rows["a"]["circuit"]) == ("active", 9)
    driver.send(request("freeze", kind="circuit"))  # of a gateway that has no numbers yet
    assert (driver.rows["a"]["state"], driver.rows["a"]["circuit"]) == ("freeze", 9)


def test_a_circuit_s_number_that_is_to_come_shuts_nobody_out() -> None:
    driver = Driver(PROCESSOR)
    driver.send(request("freeze", kind="circuit", version=2**62))
    driver.time += SECOND
    driver.send(request("active", kind="circuit", version=driver.time // 1000))
    assert driver.rows["a"]["state"] == "active"


def test_a_request_of_people_as_json_is_taken() -> None:
    driver = Driver(PROCESSOR)
    text = {"request_id": "j", "tenant": "a", "target": "light", "ts": "2026-01-31T12:00:00Z"}
    driver.send_bytes([(b"a", json.dumps(text).encode())])
    assert driver.rows["a"]["state"] == "light"


def test_what_is_told_is_read_by_its_schema() -> None:
    driver = Driver(PROCESSOR)
    driver.send(request())
    ((state, *_), _) = told(driver)
    assert codec.decode(codec.encode("sleep_state", state))[1] == state


def test_where_cognition_is_off_nobody_is_put_to_sleep_and_each_request_is_answered() -> None:
    driver = Driver(PROCESSOR)
    driver.send(request(ttl_seconds=60))
    driver.setting("cognition", "off")
    told(driver)
    driver.send(request("freeze", actor="eva"))
    driver.send(request(ttl_seconds=0))
    assert [one.reason for one in driver.dead_letters] == ["malformed"]
    states, (said, _) = told(driver)
    assert states == [] and (said["outcome"], said["state"]) == ("refused", "deep")
    assert "SOMA_ENABLE_COG_THREADS=1" in said["why"]
    assert driver.counts["soma_sleep_disabled_total"] == 1
    driver.setting("cognition", "on", "a")
    driver.send(request("freeze"))
    assert told(driver)[0][-1]["state"] == "freeze"


def test_where_cognition_is_off_who_sleeps_wakes_by_request_and_at_the_end() -> None:
    driver = Driver(PROCESSOR)
    for _ in range(2):
        driver.send(request(ttl_seconds=60))
        driver.setting("cognition", "off")
        told(driver)
        driver.send(request("active"))
        assert [one["state"] for one in told(driver)[0]] == ["active"]
        driver.setting("cognition", "on")
    assert "soma_sleep_disabled_total" not in driver.counts
    driver.send(request(ttl_seconds=60))
    driver.setting("cognition", "off")
    told(driver)
    driver.tick(driver.time + 61 * SECOND)
    driver.send_all([])
    assert [one["state"] for one in told(driver)[0]] == ["active"]
