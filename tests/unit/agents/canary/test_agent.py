"""What the processor canary says of commands, blocks and the end of its time."""

import json
from typing import Any

import numpy as np
import pytest

from agents.canary.agent import AUDIT, BLOCK_SCHEMA, PROCESSOR, UPDATES
from agents.canary.law import METRICS
from agents.canary.state import BEFORE
from agents.kit import Driver
from tests.unit.agents.canary.samples import START

NAME, SECOND = "integrator.alpha", 1_000_000
FIRST = 1000  # the first block before


def told(driver: Driver) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Changes of settings since the last call, and what the audit says."""
    found = [(one.topic, one.record) for one in driver.take() if one.record is not None]
    changes = [one for topic, one in found if topic == UPDATES]
    audit = [json.loads(one["detail"]) for topic, one in found if topic == AUDIT]
    assert {one["processor"] for one in changes} <= {"integrator"}
    return changes, audit


def blocks(first: int, differences: list[list[float]], before: bool = False) -> dict[str, Any]:
    width = len(METRICS)
    return {
        "name": NAME, "id": "one", "before": before, "first": first,
        "last": first + len(differences) - 1,
        "differences": [d for one in differences for d in one],
        "canary": [0.2] * width, "control": [0.1] * width,
        "spread": [0.0] * width, "freedom": 0, "ts": 0,
    }  # fmt: skip


def noise(rng: np.random.Generator, n: int, harm: float = 0.0) -> list[list[float]]:
    found = [[*rng.normal(0, 0.1, 2).tolist(), 0.0, 0.0] for _ in range(n)]
    return [[error + harm, regret, changes, cuts] for error, regret, changes, cuts in found]


def put_on(rng: np.random.Generator) -> Driver:
    """A canary whose setting is on."""
    driver = Driver(PROCESSOR, partitions=4)
    assert driver.partition_of(NAME) == 0
    driver.send(START)
    changes, (said,) = told(driver)
    assert not changes and (said["state"], said["tenants"]) == ("measuring", 2)
    driver.send(blocks(FIRST, noise(rng, BEFORE), True), schema=BLOCK_SCHEMA)
    changes, (said,) = told(driver)
    assert [(one["tenant"], one["value"], one["expected_value"]) for one in changes] == [
        ("a", "4", ""), ("b", "4", ""),
    ]  # fmt: skip
    assert said["state"] == "put_on" and driver.rows[NAME]["state"] == "running"
    return driver


def test_what_harms_is_taken_back_and_said_within_half_a_minute() -> None:
    rng = np.random.default_rng(1)
    driver = put_on(rng)
    for k in range(30):
        driver.restart()  # killed after each block: the row has all
        driver.send(blocks(FIRST + 100 + k, noise(rng, 1, 0.25)), schema=BLOCK_SCHEMA)
        if driver.rows[NAME]["state"] == "worse":
            break
    changes, (said,) = told(driver)
    assert [(one["tenant"], one["value"], one["expected_value"]) for one in changes] == [
        ("a", "", "4"), ("b", "", "4"),
    ]  # fmt: skip
    assert said["state"] == "worse" and said["why"].startswith("error is worse by 0.")
    assert driver.counts["soma_canary_rolled_back_total"] == 1
    driver.send(blocks(FIRST + 200, noise(rng, 1, 9.0)), schema=BLOCK_SCHEMA)
    assert told(driver) == ([], [])  # it is over


def test_a_change_goes_to_its_tenants_own_partition_and_key() -> None:
    driver = put_on(np.random.default_rng(2))
    sent = [one for one in driver.outputs if one.topic == UPDATES]
    assert [one.key for one in sent] == ["a\x1fintegrator.alpha", "b\x1fintegrator.alpha"]
    assert [one.partition for one in sent] == [driver.partition_of(one) for one in ("a", "b")]


def test_a_block_counts_once_and_only_in_its_phase() -> None:
    rng = np.random.default_rng(3)
    driver = put_on(rng)
    one = blocks(FIRST + 100, noise(rng, 5))
    driver.send(one, schema=BLOCK_SCHEMA)
    row = driver.rows[NAME]
    for again in (one, one | {"first": FIRST + 99}, one | {"id": "two", "first": 2000},
                  one | {"before": True, "first": 2000}):  # fmt: skip
        driver.send(again, schema=BLOCK_SCHEMA)
        assert driver.rows[NAME] == row


def test_what_helps_is_reported_and_promoted_by_command() -> None:
    rng = np.random.default_rng(4)
    driver = put_on(rng)
    driver.send(blocks(FIRST + 100, noise(rng, 30, -0.25)), schema=BLOCK_SCHEMA)
    changes, (said,) = told(driver)
    assert not changes and said["state"] == "better" and "error is better by 0." in said["why"]
    driver.send(START | {"type": "promote", "actor": "eva"})
    changes, (said,) = told(driver)
    made = sorted((one["tenant"], one["value"], one["expected_value"]) for one in changes)
    assert made == [("*", "4", None), ("a", "", "4"), ("b", "", "4")]
    assert said["state"] == "promoted" == driver.rows[NAME]["state"]


def test_it_ends_by_command_or_when_its_time_is_over() -> None:
    driver = put_on(np.random.default_rng(5))
    driver.send(START | {"type": "stop"})
    changes, (said,) = told(driver)
    assert [one["value"] for one in changes] == ["", ""] and said["state"] == "stopped"
    driver.send(START | {"id": "two", "for_s": 60})
    told(driver)
    driver.tick(driver.time + 61 * SECOND)
    driver.send_all([])
    changes, (said,) = told(driver)
    assert not changes and said["state"] == "expired"  # it was never put on


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"id": "two"}, "there is a canary on integrator.alpha already: one"),
        ({"name": "integrator.colour"}, "no setting 'colour'"),
        ({"name": "chef.alpha"}, "no processor 'chef'"),
        ({"name": "integrator.fusion"}, "fusion is one of hedge"),
        ({"name": "integrator.margin", "value": "-1"}, "margin is a number from 0 to 1"),
        ({"name": "integrator.margin", "value": ""}, "no value"),
        ({"name": "integrator.margin", "value": "1", "domain": "state"}, "is the tenant's"),
        ({"name": "integrator.margin", "value": "1", "tenants": []}, "no tenants"),
        ({"name": "integrator.margin", "value": "1", "control": []}, "no control group"),
        ({"name": "integrator.margin", "value": "1", "control": ["a"]}, "named twice"),
        ({"name": "integrator.margin", "value": "1", "for_s": 0}, "from 60 to 86400"),
        ({"type": "pause"}, "no type 'pause'"),
        ({"type": "stop", "id": "other"}, "no canary 'other' runs"),
        ({"type": "promote"}, "isn't put on yet"),
    ],
)
def test_what_cant_be_is_refused_by_name(wrong: dict[str, Any], why: str) -> None:
    driver = Driver(PROCESSOR)
    driver.send(START)
    told(driver)
    driver.send(START | wrong)
    changes, (said,) = told(driver)
    assert not changes and said["state"] == "refused" and why in said["why"]
    assert set(driver.rows) == {NAME}


def test_where_cognition_is_off_none_begins_and_one_that_runs_goes_on() -> None:
    rng = np.random.default_rng(6)
    driver = put_on(rng)
    driver.setting("cognition", "off")
    driver.send(blocks(FIRST + 100, noise(rng, 30, 0.25)), schema=BLOCK_SCHEMA)
    changes, said = told(driver)
    assert said[-1]["state"] == "worse" and [one["value"] for one in changes] == ["", ""]
    driver.send(START)
    assert "SOMA_ENABLE_COG_THREADS" in told(driver)[1][0]["why"]
    assert driver.counts["soma_canary_disabled_total"] >= 1


@pytest.mark.parametrize(
    "wrong", [{"spread": []}, {"differences": [0.1]}, {"canary": [float("nan")] * len(METRICS)}]
)
def test_blocks_that_cant_be_are_dead_letters(wrong: dict[str, Any]) -> None:
    driver = put_on(np.random.default_rng(7))
    driver.send(blocks(FIRST + 100, [[0.0] * len(METRICS)]) | wrong, schema=BLOCK_SCHEMA)
    assert len(driver.dead_letters) == 1 and not driver.rows[NAME]["after"]


def test_what_is_no_command_is_a_dead_letter_that_is_told() -> None:
    driver = Driver(PROCESSOR)
    driver.send_bytes([(b"integrator.alpha", b"{}")])
    ((said,),) = (told(driver)[1],)
    assert said["state"] == "refused" and len(driver.dead_letters) == 1
