"""Control on the engine's path: where control records go, and what the audit says."""

import json
from typing import Any

import pytest

from agents.control.agent import AUDIT, INPUTS, PROCESSOR
from agents.kit import Driver
from topics import codec
from topics.partition import partition_of

PARTITIONS = 4
START = 1_700_000_000_000_000
TENANT = "cpu"
HOME = partition_of(TENANT, PARTITIONS)


def update(tenant: str = TENANT, setting: str = "fusion", value: str = "hedge", **more: Any) -> Any:
    return {
        "tenant": tenant, "setting": setting, "value": value, "author": "ann", "ts": START,
        "processor": "", "expected_version": None,
    } | more  # fmt: skip


@pytest.fixture
def driver() -> Driver:
    return Driver(PROCESSOR, partitions=PARTITIONS, partition=HOME)


def said(driver: Driver) -> list[dict[str, Any]]:
    """What the audit was told since the last call."""
    told = [one.record or {} for one in driver.take() if one.topic == AUDIT]
    return [one | {"detail": json.loads(one["detail"])} for one in told]


def test_a_change_goes_into_the_input_of_its_processor(driver: Driver) -> None:
    driver.send(update())
    setting, audit = sorted(driver.outputs, key=lambda one: one.topic == AUDIT)
    assert (setting.topic, setting.partition, setting.key) == (INPUTS["integrator"], HOME, TENANT)
    version = driver.time // 1000
    assert setting.record == {
        "tenant": TENANT, "setting": "fusion", "value": "hedge", "author": "ann", "ts": START,
        "processor": "integrator", "version": version, "update": f"0123abcd-{HOME}-0",
    }  # fmt: skip
    assert (audit.key, audit.partition) == (TENANT, HOME) and audit.record is not None
    assert json.loads(audit.record["detail"]) == {
        "update": f"0123abcd-{HOME}-0", "setting": "fusion", "value": "hedge", "version": version,
        "processor": "integrator", "was": "",
    }  # fmt: skip
    row = driver.rows[TENANT]
    assert row["values"] == {"integrator.fusion": "hedge"} and row["version"] == version


def test_a_change_of_all_goes_into_every_partition() -> None:
    driver = Driver(PROCESSOR, partitions=PARTITIONS, partition=partition_of("*", PARTITIONS))
    driver.send(update("*", "cpd@state", "off"))
    found = [one for one in driver.outputs if one.topic == INPUTS["segmentation"]]
    assert sorted(one.partition for one in found) == list(range(PARTITIONS))
    assert {one.key for one in found} == {"*"}
    assert len({json.dumps(one.record) for one in found}) == 1
    assert len(said(driver)) == 1
    driver.restart()
    driver.setting("forget_after_s", 60)  # '*' has a row for both
    driver.send(update("*", "cpd@state", ""))
    driver.restart()
    assert driver.rows["*"]["values"] == {} and len(driver.rows["*"]["history"]) == 2


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_an_author_s_clock_an_hour_off_changes_no_version(driver: Driver, off_s: int) -> None:
    """The log's time counts: of two changes the later one has the higher version."""
    driver.send(update(ts=driver.time + off_s * 1_000_000))
    driver.send(update(value="softmax", ts=driver.time))
    first, second = (one["detail"]["version"] for one in said(driver))
    assert (first, second) == (driver.time // 1000, driver.time // 1000 + 1)
    assert driver.rows[TENANT]["values"] == {"integrator.fusion": "softmax"}


def test_what_is_refused_changes_nothing_and_is_told(driver: Driver) -> None:
    driver.send(update(value="magic"))
    (told,) = said(driver)
    assert (told["action"], told["actor"], told["tenant"]) == ("config.refused", "ann", TENANT)
    assert "one of" in told["detail"]["why"] and "'magic'" in told["detail"]["why"]
    assert driver.rows == {} and not driver.dead_letters
    driver.send(update(value="hedge"))
    driver.take()
    before = driver.rows[TENANT]
    driver.send(update(value="softmax", expected_version=5))
    (told,) = said(driver)
    assert "by now, not 5" in told["detail"]["why"]
    assert driver.rows[TENANT] == before
    assert driver.counts == {"soma_config_changes_total": 1, "soma_config_refused_total": 2}


def test_what_is_no_change_at_all_is_a_dead_letter_and_told(driver: Driver) -> None:
    driver.send_bytes([(TENANT.encode(), b"junk")])
    (letter,) = driver.dead_letters
    (told,) = said(driver)
    assert told["action"] == "config.refused" and letter.reason in told["detail"]["why"]


def test_keys_may_say_which_setting_it_is_and_nothing_else(driver: Driver) -> None:
    value = codec.encode("config_update", update())
    keys = [TENANT.encode(), f"{TENANT}\x1fintegrator.fusion".encode()]
    driver.send_bytes([(key, value) for key in keys])
    assert len(said(driver)) == 2
    astray = [None, b"", f"{TENANT}x".encode(), f"x{TENANT}\x1f".encode(), b"\x1f" * len(TENANT)]
    driver.send_bytes([(key, value) for key in astray])
    assert said(driver) == []  # sent on with the tenant for a key


def test_what_was_set_outlives_silence(driver: Driver) -> None:
    driver.send(update())
    driver.send(update(setting="cpd", value="off"))
    driver.setting("forget_after_s", 60)
    driver.tick(driver.time + 3600 * 1_000_000)
    driver.restart()
    assert driver.rows[TENANT]["values"] == {
        "integrator.fusion": "hedge",
        "segmentation.cpd": "off",
    }
    driver.send(update(value=""))
    driver.send(update(setting="cpd", value=""))
    driver.tick(driver.time + 7200 * 1_000_000)
    assert driver.rows == {}
