"""Who overrides whom, and that rows are used again."""

import math

import pytest

from agents.kit.asleep import DEEP, number
from agents.kit.setting import Setting
from agents.kit.tenant_settings import TenantSettings, number_of, row_of

SETTINGS = {
    "a": Setting(1.0, "a number", 0, 10),
    "b": Setting("off", "a switch", choices=("off", "on"), scope="domain"),
    "c": Setting(5, "a count", 0, 10, scope="domain"),
}


def values(own: TenantSettings, tenant: str, domain: str = "") -> list[float]:
    """The settings that hold; the last number of a row is none's."""
    row = own.row(tenant, domain)
    *found, sleep = own.table[row].tolist()
    assert sleep == own.sleep_of(tenant)
    return [float(x) for x in found]


def test_own_values_before_everyones_before_the_deployments() -> None:
    own = TenantSettings(SETTINGS, {"a": "3"})
    own.change("t", "b", "on")
    own.change("*", "a", "4")
    own.change("*", "c", "6")
    assert own.row("t") > 0 and own.row("u") == 0
    assert values(own, "t") == [4.0, 1.0, 6.0]
    assert values(own, "u") == [4.0, 0.0, 6.0]
    own.change("*", "a", "")
    assert values(own, "t") == [3.0, 1.0, 6.0]
    own.change("t", "b", "")
    assert own.row("t") == 0 and own.tenants() == ["*"] and own.own("*") == {"c": 6.0}


def test_a_domains_value_before_the_tenants_and_a_tenants_before_everyones_domain() -> None:
    own = TenantSettings(SETTINGS, {})
    own.change("*", "c@x", "2")
    own.change("t", "c", "3")
    own.change("t", "b@y", "on")
    assert values(own, "u", "x") == [1.0, 0.0, 2.0]
    assert values(own, "u", "y") == values(own, "u") == [1.0, 0.0, 5.0]
    assert values(own, "t", "x") == values(own, "t") == [1.0, 0.0, 3.0]
    assert values(own, "t", "y") == [1.0, 1.0, 3.0]
    own.change("t", "c@x", "4")
    assert values(own, "t", "x") == [1.0, 0.0, 4.0]
    assert list(own.own("t")) == ["b@y", "c", "c@x"]


def test_a_tenants_row_stays_its_own_while_everyones_values_change() -> None:
    own = TenantSettings(SETTINGS, {})
    own.change("t", "a", "2")
    row, version = own.row("t"), own.version
    own.change("*", "c", "9")
    assert own.row("t") == row and values(own, "t") == [2.0, 0.0, 9.0]
    assert own.version == version + 1


def test_a_sleeper_has_a_row_of_its_own_and_everybody_s_values() -> None:
    own, deep = TenantSettings(SETTINGS, {}), float(number(DEEP, 1, False))
    own.let_sleep("t", deep)
    own.change("*", "c@x", "9")
    assert own.row("t") > 0 and values(own, "t") == [1.0, 0.0, 5.0]
    assert values(own, "t", "x") == [1.0, 0.0, 9.0] and values(own, "u") == [1.0, 0.0, 5.0]
    assert own.own("t") == {} and own.kept("t") == {"sleep": deep} and own.anybody_sleeps
    own.change("t", "a", "2")
    other = TenantSettings(SETTINGS, {})
    other.take("t", own.kept("t"))
    assert other.kept("t") == own.kept("t") == {"a": 2.0, "sleep": deep}
    own.let_sleep("t", 0.0)
    assert values(own, "t") == [2.0, 0.0, 5.0] and not own.anybody_sleeps
    with pytest.raises(ValueError, match="no sleep has the number"):
        other.take("t", {"sleep": 0.5})


def test_rows_are_used_again() -> None:
    own = TenantSettings(SETTINGS, {})
    for k in range(1000):
        own.change(f"t{k}", "c", "1")
        assert own.row(f"t{k}") == 1
        own.change(f"t{k}", "c", "")
    assert own.table.shape[0] == 2
    for k in range(100):
        own.change(f"t{k}", "c", str(k % 11))
    assert [values(own, f"t{k}")[2] for k in range(100)] == [k % 11 for k in range(100)]


def test_what_is_refused_changes_nothing() -> None:
    own = TenantSettings(SETTINGS, {})
    own.change("t", "a", "2")
    for name, text in (("a", "11"), ("z", "1"), ("z", ""), ("a@x", "1"), ("c@", "1")):
        with pytest.raises(ValueError, match=name.partition("@")[0]):
            own.change("t", name, text)
    for name, value in (("b", 0.5), ("c", 1.5), ("a", math.nan), ("z", 1.0)):
        with pytest.raises(ValueError, match=r"not|no setting"):
            own.replace("t", {name: value})
    assert own.own("t") == {"a": 2.0} and own.version == 2


def test_texts_as_numbers_and_rows() -> None:
    assert number_of(SETTINGS, "b@x", "on") == 1.0
    assert math.isnan(number_of(SETTINGS, "a", ""))
    assert row_of(SETTINGS, {"c": "7"}).tolist() == [1.0, 0.0, 7.0]
    for name in ("c@x", "z"):
        with pytest.raises(ValueError, match=name):
            row_of(SETTINGS, {name: "7"})
