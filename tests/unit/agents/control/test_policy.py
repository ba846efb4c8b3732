"""Policies by control: what is set, and what is refused while the old one stays."""

import json
from typing import Any

import pytest

from agents.control.agent import AUDIT, INPUTS, PROCESSOR
from agents.control.vetting import WITHIN_S, vetted
from agents.kit import Driver
from agents.policy.bundle import BYTES_MAX, digest, read
from tests.opa import endless
from tests.unit.agents.control.test_agent import HOME, PARTITIONS, TENANT, said, update
from topics.partition import partition_of

HEAD = "package soma.policy.integrator\n"
GOOD = f"{HEAD}allow := true\n"
NAME = "integrator.policy"


@pytest.fixture
def driver() -> Driver:
    return Driver(PROCESSOR, partitions=PARTITIONS, partition=HOME)


def policy(text: str, **more: Any) -> Any:
    return update(setting="policy", value=text, **more)


def controls(driver: Driver) -> list[Any]:
    return [one for one in driver.outputs if one.topic != AUDIT]


def test_a_policy_goes_into_the_integrators_input_in_its_one_form(driver: Driver) -> None:
    driver.send(policy(GOOD))
    (record,), text = controls(driver), read(GOOD).text
    assert (record.topic, record.partition) == (INPUTS["integrator"], HOME)
    assert record.record["value"] == text and record.record["setting"] == "policy"
    (told,) = said(driver)
    assert (told["action"], told["detail"]["value"]) == ("config.set", digest(GOOD))
    row = driver.rows[TENANT]
    assert row["policy"] == text and row["values"] == {NAME: digest(text)}
    assert json.loads(row["history"][-1])[:4] == [row["version"], NAME, "", digest(text)]
    driver.restart()
    driver.send(policy("", processor="integrator", expected_version=row["version"]))
    row = driver.rows[TENANT]
    assert row["policy"] == "" and row["values"] == {} and len(row["history"]) == 2


def test_one_of_all_goes_into_every_partition() -> None:
    driver = Driver(PROCESSOR, partitions=PARTITIONS, partition=partition_of("*", PARTITIONS))
    driver.send(policy(GOOD, tenant="*"))
    assert sorted(one.partition for one in controls(driver)) == list(range(PARTITIONS))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{HEAD}allow := {{", "policy.rego:2"),
        (f"{HEAD}allow if nope(1)", "no function nope"),
        (f"{HEAD}allow := 3", "allow is a number"),
        (f"{HEAD}default allow := true\n" + endless("probe"), "longer than 250 ms"),
        ('{"modules": {}}', "1 to 100 modules"),
        ("x" * (BYTES_MAX + 1), "64 KiB at most"),
    ],
)
def test_one_that_cannot_be_used_is_refused_and_the_old_one_stays(
    driver: Driver, text: str, why: str
) -> None:
    driver.send(policy(GOOD))
    driver.take()
    before = driver.rows[TENANT]
    driver.send(policy(text))
    (written,) = driver.take()
    assert written.topic == AUDIT and written.record is not None and not driver.dead_letters
    told = written.record | {"detail": json.loads(written.record["detail"])}
    assert told["action"] == "config.refused" and why in told["detail"]["why"]
    assert len(told["detail"]["why"]) <= 1000
    assert driver.rows[TENANT] == before


def test_what_cannot_be_tried_out_in_time_is_refused_by_name_and_may_come_again() -> None:
    """Others' settings wait behind it, so it has some seconds and no more."""
    text = f"{HEAD}allow := true  # not tried out before\n"
    with pytest.raises(ValueError, match=r"too_slow: .* within 0\.001 s: say it again"):
        vetted(text, 0.001)
    assert vetted(text) == read(text).text and WITHIN_S <= 5.0


def test_one_far_too_large_is_answered_as_a_dead_letter_is(driver: Driver) -> None:
    driver.send(policy("x" * (2 * BYTES_MAX)))
    (told,) = said(driver)
    assert told["action"] == "config.refused" and "string_too_long" in told["detail"]["why"]


def test_it_is_the_integrators_alone(driver: Driver) -> None:
    driver.send(policy(GOOD, processor="predictors"))
    (told,) = said(driver)
    assert "predictors has no setting 'policy'" in told["detail"]["why"]
