"""What control makes of changes: checks, versions, history."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.control import law
from agents.control.law import (
    KEPT,
    KEPT_LEARNED,
    LEARNER,
    NEVER,
    Change,
    Config,
    checked,
    make,
    values_at,
)
from agents.kit.setting import Setting
from agents.learner.agent import AUTHOR

KNOWN = {
    "one": {
        "speed": Setting(1.0, "how fast", 0, 10, scope="domain"),
        "mode": Setting("off", "whether", choices=("off", "on")),
        "rows_max": Setting(5, "of all", 1, 9, scope="deployment"),
    },
    "two": {"speed": Setting(2, "how fast", 0, 10)},
    "control": {"patience_s": Setting(60, "until it forgets", 1, 90)},
}


def update(setting: str, value: str = "", processor: str = "one", **more: Any) -> Any:
    base = {
        "tenant": "t", "author": "a", "expected_version": None, "expected_value": None,
        "log_ms": 1000,
    }  # fmt: skip
    return SimpleNamespace(
        **base | {"setting": setting, "value": value, "processor": processor} | more
    )


def change(
    row: Config, setting: str, value: str = "", processor: str = "one", **more: Any
) -> Change:
    one = update(setting, value, processor, **more)
    return make(row, checked(KNOWN, row, one), one)


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (update("colour"), "one has no setting 'colour'; there are speed, mode, rows_max"),
        (update("colour", "", ""), "no processor has a setting 'colour'"),
        (update("speed", "1", ""), "one, two have a setting 'speed': name the processor"),
        (update("speed", "1", "chef"), "no processor 'chef'; there are one, two, control"),
        (update("patience_s", "9", ""), "control's own is the deployment's: SOMA_CONTROL__PATIENC"),
        (update("mode", "1", "two"), "two has no setting 'mode'; there are speed"),
        (update("speed", "11"), "speed is a number from 0 to 10, not '11'"),
        (update("speed", "nan"), "speed is a number from 0 to 10, not 'nan'"),
        (update("speed", "1.5", "two"), "speed is a whole number from 0 to 10, not '1.5'"),
        (update("mode", "maybe"), "mode is one of off, on, not 'maybe'"),
        (update("mode@d", "on"), "mode is the tenant's: it can't be set for a domain"),
        (update("speed@a b", "1"), "'a b' can't be a domain: 1 to 128 of A-Z a-z 0-9 . _ -"),
        (update("rows_max", "3"), "rows_max is the deployment's: no tenant can have it otherwise"),
        (update("mode", "on", expected_version=7), "one.mode has version 0 by now, not 7"),
        (update("mode", "on", expected_value="off"), "one.mode is '' by now, not 'off'"),
    ],
)  # fmt: skip
def test_what_cant_be_is_refused_with_its_reason(one: Any, why: str) -> None:
    row = Config()
    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        checked(KNOWN, row, one)
    assert row == Config()


def test_the_only_processor_that_has_a_setting_need_not_be_named() -> None:
    assert checked(KNOWN, Config(), update("mode", "on", "")) == "one"


def test_a_change_that_knew_an_older_version_is_refused() -> None:
    row = Config()
    first = change(row, "mode", "on", expected_version=0)
    second = change(row, "mode", "off", expected_version=first.version)
    with pytest.raises(
        ValueError, match=f"has version {second.version} by now, not {first.version}"
    ):
        change(row, "mode", "on", expected_version=first.version)
    change(row, "mode", "on")  # who names none says it whatever was there


def test_domains_have_values_of_their_own_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(law, "NAMES_MAX", 3)
    row = Config()
    for name in ("speed@a", "speed@b", "mode"):
        change(row, name, "1" if name != "mode" else "on")
    with pytest.raises(ValueError, match="it has 3 settings of its own: take some back first"):
        change(row, "speed", "1")
    change(row, "speed@a", "2")
    change(row, "speed@a", "")
    change(row, "speed", "1")
    assert row.values == {"one.speed@b": "1", "one.mode": "on", "one.speed": "1"}
    for k in range(9):
        change(row, f"speed@x{k}", "")  # taken back, though it was never set
    assert [name for name in row.versions if name not in row.values] == [
        "one.speed@x6", "one.speed@x7", "one.speed@x8",
    ]  # fmt: skip


def test_what_is_set_keeps_its_row() -> None:
    row = Config()
    change(row, "mode", "on")
    assert row.due == NEVER
    change(row, "mode")
    assert row.due is None and row.values == {} and row.version > 0


TIMES = st.integers(1, 5)
SAID = st.tuples(
    st.sampled_from(["mode", "speed", "speed@d"]), st.sampled_from(["", "1", "2"]), TIMES
)


@given(st.lists(SAID, max_size=2 * KEPT))
def test_versions_rise_and_each_tells_what_was_set(said: list[tuple[str, str, int]]) -> None:
    row, now, states = Config(), 1000, {0: dict[str, str]()}
    for name, value, later in said:
        now += later - 3  # the log's time may stand still, and go back where a broker's clock does
        text = {"1": "on", "2": "off"}.get(value, "") if name == "mode" else value
        one = change(row, name, text, log_ms=now)
        assert one.version >= now and one.version > max(states)
        assert one.text == Change.of(one.text).text == row.history[-1]
        states[one.version] = dict(row.values)
    history = [Change.of(text) for text in row.history]
    assert len(history) == min(len(said), KEPT)
    known = sorted(states)[-KEPT:] if len(said) >= KEPT else sorted(states)
    for version in known:
        assert values_at(row.values, history, version) == states[version]
    if len(said) >= KEPT:
        with pytest.raises(ValueError, match=f"only {KEPT} changes are kept"):
            values_at(row.values, history, 0)


def test_what_is_learned_leaves_peoples_changes_their_room() -> None:
    """Two hours of a learning tenant, a change every 5 s: what people did is there still."""
    row, n = Config(), 1440
    change(row, "mode", "on", log_ms=1000)
    before = dict(row.values)
    change(row, "mode", "off", log_ms=2000)
    for k in range(n):
        change(row, "speed", f"{k % 7 + 1}", log_ms=10_000 + k, author=LEARNER)
    history = [Change.of(text) for text in row.history]
    assert [one.learned for one in history] == [False] * 2 + [True] * KEPT_LEARNED
    assert values_at(row.values, history, 1000)["one.mode"] == before["one.mode"] == "on"
    for k in range(KEPT + 5):
        change(row, "mode", ("on", "off")[k % 2], log_ms=20_000 + k)
    kinds = [Change.of(text).learned for text in row.history]
    assert kinds == [True] * KEPT_LEARNED + [False] * KEPT
    assert AUTHOR == LEARNER


def test_a_change_may_expect_the_value_that_it_replaces() -> None:
    row = Config()
    change(row, "mode", "on", expected_value="")
    with pytest.raises(ValueError, match="is 'on' by now, not ''"):
        change(row, "mode", "off", expected_value="")
    change(row, "mode", "", expected_value="on")
    assert not row.values
