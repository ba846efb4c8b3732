"""What events do to memories, one thing at a time; orders to prune."""

import json
import math
from typing import Any

import numpy as np
import pytest

from agents.coordinates import memory_id
from agents.kit import Driver
from agents.memory.agent import AUDIT, EVENTS, LATEST, PROCESSOR
from tests.unit.agents.memory.latest import audit, content, head, latest, said
from tests.unit.agents.memory.samples import event, vector
from tests.unit.agents.prune.samples import order

ONE, TWO = memory_id("a", "1"), memory_id("a", "2")
KB = 1000
SECOND = 1_000_000


def full(n: int, **more: Any) -> Driver:
    """A tenant with n memories."""
    driver = Driver(PROCESSOR)
    driver.send_all([event(coordinate=str(k), **more) for k in range(n)])
    return driver


def prune(driver: Driver, given: dict[str, Any]) -> dict[str, Any]:
    """Send an order, and what it wrote into the source; returns the answer."""
    driver.take()
    driver.send(given, schema="prune_order")
    written = driver.take()
    sent = [one.record for one in written if one.topic == EVENTS and one.record is not None]
    driver.send_all(sent)
    return next(one.record for one in written if one.topic == AUDIT and one.record is not None)


def test_a_memory_has_a_head_and_a_content_and_an_access_writes_the_head_alone() -> None:
    driver = Driver(PROCESSOR)
    driver.send(event(embedding=vector(3, 4), model_revision="m1", importance=2.5))
    assert [one.topic for one in driver.take()] == [LATEST, LATEST, AUDIT]
    driver.send(event("accessed", ts=event()["ts"] + 9))
    assert [(one.topic, one.key) for one in driver.take()] == [
        (LATEST, f"a\x1f\x1f{ONE}"), (AUDIT, "a"),
    ]  # fmt: skip
    top, body = head(driver, ONE), content(driver, ONE)
    assert top is not None and body is not None
    assert (top["version"], top["content_version"], top["access_count"]) == (2, 1, 1)
    assert top["accessed_ts"] == event()["ts"] + 9 and top["importance_raw"] == 2.5
    assert (body["vector"], body["model_revision"]) == (vector(3, 4), "m1")
    assert (body["version"], body["payload"], top["payload"]) == (1, event()["payload"], "")
    assert "payload" not in driver.rows[f"a/{ONE}"]  # what is large isn't kept by the worker


def test_a_payload_of_900_kb_passes_and_no_larger_one() -> None:
    driver = Driver(PROCESSOR)
    large = json.dumps({"text": "x" * (900 * KB - 12)})
    driver.send_all([event(payload=large), event(coordinate="2", payload=large + " ")])
    body = content(driver, ONE)
    assert len(large) == 900 * KB and body is not None and body["payload"] == large
    (letter,) = driver.dead_letters
    assert letter.reason == "string_too_long" and audit(driver)[-1]["outcome"] == "dead"
    assert len(str(driver.rows)) < 2 * KB


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"id": "x"}, "id"), ({"id": TWO}, "id"), ({"id": ONE.upper()}, "id"),
        ({"coordinate": "1.0"}, "coordinate"), ({"coordinate": ""}, "coordinate"),
        ({"coordinate": "1e999"}, "coordinate"), ({"coordinate": "-0"}, "coordinate"),
        ({"coordinate": ",".join("1" * 65)}, "coordinate"),
        ({"payload": "{"}, "payload"), ({"payload": "[]"}, "payload"),
        ({"payload": '{"a": NaN}'}, "payload"), ({"namespace": "a\x1fb"}, "namespace"),
        ({"namespace": "n" * 201}, "namespace"), ({"importance": math.nan}, "importance"),
        ({"importance": math.inf}, "importance"), ({"embedding": b"123"}, "vector"),
        ({"embedding": vector(0, 0)}, "vector"), ({"embedding": vector(1, math.nan)}, "vector"),
        ({"embedding": vector(1, math.inf)}, "vector"), ({"embedding": bytes(16388)}, "vector"),
        ({"links": {"x": "k"}}, "link"), ({"links": {ONE: "k"}}, "link"),
        ({"links": {TWO: "k" * 65}}, "link"),
    ],
)  # fmt: skip
def test_what_no_event_can_be_is_a_dead_letter_by_name(more: dict[str, Any], reason: str) -> None:
    driver = Driver(PROCESSOR)
    driver.send(event(**more))
    (letter,), (one,) = driver.dead_letters, audit(driver)
    assert letter.reason == reason
    assert (one["outcome"], one["reason"], one["detail"]) == ("dead", reason, letter.detail)
    assert set(driver.rows) <= {"a"} and latest(driver) == {}


def test_numbers_at_the_edge_are_numbers() -> None:
    driver = Driver(PROCESSOR)
    edge = [("1e+308", {}), ("0", {"embedding": vector(3e38, 3e38)}),
            ("2", {"embedding": vector(1e-45, 0)})]  # fmt: skip
    driver.send_all([event(coordinate=at, **more) for at, more in edge])
    assert [one["outcome"] for one in audit(driver)] == ["done"] * 3


def test_the_first_vector_fixes_its_namespace_s_dimension() -> None:
    driver = Driver(PROCESSOR)
    driver.send(event(embedding=vector(1, 2)))
    driver.send(event(coordinate="2", embedding=vector(1, 2, 3)))
    assert said(driver) == ("refused", "dimension", 0)
    driver.send(event(coordinate="2", embedding=vector(1, 2, 3), namespace="other"))
    assert said(driver) == ("done", "", 1)


def test_a_lost_update_is_refused_and_an_access_in_between_loses_none() -> None:
    driver = Driver(PROCESSOR)
    for type_ in ("created", "updated", "accessed"):
        driver.send(event(type_))
    driver.send(event("updated", expected_version=1))
    assert said(driver) == ("refused", "version", 3)
    driver.send(event("updated", expected_version=4))
    assert said(driver) == ("refused", "version", 3)
    driver.send(event("updated", expected_version=2, payload='{"a": 1}'))
    assert said(driver) == ("done", "", 4)


def test_an_id_has_one_namespace() -> None:
    driver = full(2)
    driver.send(event("updated", namespace="other"))
    assert said(driver) == ("refused", "namespace", 1)


def test_links_lead_to_memories_and_are_bounded() -> None:
    driver = full(6)
    driver.setting("links_max", 2, "a")
    others = [memory_id("a", str(k)) for k in (2, 3, 4)]
    driver.send(event("linked", links={others[0]: "next", others[1]: "like"}))
    driver.send(event("linked", links={others[2]: "next"}))
    assert said(driver) == ("refused", "links_max", 2)
    driver.send(event("linked", links={others[0]: "", others[2]: "next"}))
    driver.send(event("linked", "2", links={ONE: "back"}))  # a circle is no harm
    top = head(driver, ONE)
    assert top is not None and top["links"] == {others[1]: "like", others[2]: "next"}
    driver.setting("links_max", 3, "a")
    driver.send(event("linked", links={memory_id("a", "no"): "next"}))
    assert said(driver) == ("refused", "link", 3)


def test_nothing_late_resurrects_within_the_horizon_nor_after_it() -> None:
    driver = full(2)
    ts, day = event()["ts"], 86_400 * SECOND
    driver.send(event("deleted", ts=ts + 100))
    top = head(driver, ONE)
    assert top is not None and top["deleted"] and content(driver, ONE) is None
    driver.send(event(ts=ts + 99, dedupe_key="late"))
    assert said(driver) == ("refused", "deleted", 2)
    driver.tick(driver.time + 29 * day)
    assert head(driver, ONE) is not None
    driver.tick(driver.time + 2 * day)
    assert head(driver, ONE) is None and f"a/{ONE}" not in driver.rows
    driver.restart()
    driver.send(event(ts=ts + 99, dedupe_key="later"))
    assert said(driver) == ("refused", "late", 0)
    driver.send(event(ts=ts + 101))
    assert said(driver) == ("done", "", 1)


def test_an_order_beyond_the_guard_wants_to_be_confirmed() -> None:
    driver = full(20)
    ids = [memory_id("a", str(k)) for k in range(3)]
    assert prune(driver, order(ids=ids, dry_run=True, lowest=1))["outcome"] == "dry_run"
    answer = prune(driver, order(ids=[*ids, "~x", "", memory_id("a", "no")]))
    assert (answer["outcome"], answer["reason"]) == ("refused", "guard")
    assert json.loads(answer["detail"]) == {"found": 3, "missing": 3, "memories": 20, "ids": ids}
    assert sum(row["deleted"] for row in latest(driver).values()) == 0
    assert prune(driver, order(ids=ids, confirm=True))["outcome"] == "done"
    assert driver.rows["a"]["number"] == 17 and content(driver, ids[0]) is None
    again = prune(driver, order(ids=[memory_id("a", "9")], confirm=True))
    assert (again["outcome"], again["reason"]) == ("refused", "known")
    assert prune(driver, order("o2", ids=[memory_id("a", "9")]))["outcome"] == "done"
    assert driver.rows["a"]["number"] == 16


def test_an_order_for_the_lowest_takes_those_worth_least() -> None:
    driver = Driver(PROCESSOR)
    driver.send_all([event(coordinate=str(k), importance=9.0 * bool(k) + k) for k in range(30)])
    answer = prune(driver, order(lowest=2, namespace=""))
    assert json.loads(answer["detail"])["ids"] == [memory_id("a", "0"), memory_id("a", "1")]
    assert prune(driver, order("o2", lowest=2, namespace="none"))["outcome"] == "done"
    assert driver.rows["a"]["number"] == 28


@pytest.mark.parametrize(
    "more", [{}, {"lowest": -1}, {"lowest": 10_001}, {"ids": ["x"], "order_id": ""}]
)
def test_what_can_be_no_order_is_a_dead_letter(more: dict[str, Any]) -> None:
    driver = full(1)
    driver.send(order(**more), schema="prune_order")
    assert driver.dead_letters[-1].reason == "malformed"
    assert audit(driver)[-1]["type"] == "prune" and said(driver)[0] == "dead"


def test_vectors_come_out_as_they_went_in() -> None:
    driver, rng = Driver(PROCESSOR), np.random.default_rng(7)
    given = [rng.normal(size=384).astype("<f4").tobytes() for _ in range(5)]
    driver.send_all([event(coordinate=str(k), embedding=one) for k, one in enumerate(given)])
    for k, one in enumerate(given):
        body = content(driver, memory_id("a", str(k)))
        assert body is not None and body["vector"] == one
