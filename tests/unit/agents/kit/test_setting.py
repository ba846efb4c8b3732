"""A setting's declaration: what texts, values and numbers it takes, and how it refuses others."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.kit import setting as setting_module
from agents.kit.setting import OFF_ON, Setting, find, parse
from topics.compiled import sources

SHARE = Setting(0.5, "a share", 0, 1)
ABOVE = Setting(10.0, "a time", 0, 100, above=True, unit="ms")
WHOLE = Setting(200, "a count", 50, 100_000)
LEAST = Setting(1, "a count", 1)
SWITCH = Setting("on", "a switch", choices=OFF_ON, scope="domain")
TEXT = Setting("", "a text")
ALL = {
    "share": SHARE, "above": ABOVE, "whole": WHOLE, "least": LEAST, "switch": SWITCH, "text": TEXT,
}  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        (SHARE, "0", 0.0), (SHARE, "1", 1.0), (SHARE, " 5e-1 ", 0.5), (ABOVE, "1e-300", 1e-300),
        (WHOLE, "50", 50), (WHOLE, "2e2", 200), (WHOLE, "200.0", 200), (WHOLE, "1_000", 1000),
        (LEAST, "1000000000000000001", 10**18 + 1), (SWITCH, "off", "off"), (TEXT, "1", "1"),
    ],
)  # fmt: skip
def test_texts_and_their_values(setting: Setting, text: str, value: object) -> None:
    found = setting.parse(text)
    assert (found, type(found)) == (value, type(setting.default))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("share", "1.01", "share is a number from 0 to 1, not '1.01'"),
        ("share", "nan", "share is a number from 0 to 1, not 'nan'"),
        ("share", "", "share is a number from 0 to 1, not ''"),
        ("above", "0", "above is a number above 0 up to 100, not '0'"),
        ("whole", "50.5", "whole is a whole number from 50 to 100000, not '50.5'"),
        ("whole", "49", "whole is a whole number from 50 to 100000, not '49'"),
        ("least", "0", "least is a whole number of at least 1, not '0'"),
        ("least", "inf", "least is a whole number of at least 1, not 'inf'"),
        ("least", "1" * 5000, f"least is a whole number of at least 1, not '{'1' * 40}'"),
        ("switch", "ON", "switch is one of off, on, not 'ON'"),
        ("text", "x" * 1025, f"text is a text of at most 1024 characters, not '{'x' * 40}'"),
        ("nothing", "1", f"no setting 'nothing'; there are {', '.join(ALL)}"),
        ("share@a", "1", "share is the tenant's: it can't be set for a domain"),
        ("switch@", "on", "switch@ lacks the domain: switch@state, for instance"),
    ],
)  # fmt: skip
def test_refusals_name_the_setting_and_what_it_takes(name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(ALL, name, text)
    assert str(error.value) == said


def test_a_name_may_be_for_a_domain() -> None:
    assert find(ALL, "switch@state.1") == (SWITCH, "switch", "state.1")
    assert find(ALL, "share") == (SHARE, "share", "")
    assert parse(ALL, "switch@x", "off") == "off"


@given(st.sampled_from(list(ALL)), st.text(max_size=20) | st.floats().map(str))
def test_any_text_is_a_value_or_refused_and_numbers_stand_for_it(name: str, text: str) -> None:
    setting = ALL[name]
    try:
        value = setting.parse(text)
    except ValueError:
        return
    assert setting.check(value) == value and setting.parse(str(value)) == value
    if name != "text":
        assert setting.of_number(setting.number(value)) == value


@pytest.mark.parametrize("value", [True, None, "0.5", math.nan, 2.0, 10**400])
def test_values_of_another_type_or_size_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a number from 0 to 1"):
        SHARE.check(value)


@pytest.mark.parametrize("number", [-1.0, 0.5, 2.0, math.nan])
def test_no_number_smuggles_in_a_choice(number: float) -> None:
    with pytest.raises(ValueError, match="one of off, on"):
        SWITCH.of_number(number)


def test_a_declaration_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(TypeError, match="a switch is a choice"):
        Setting(True, "a switch")
    with pytest.raises(ValueError, match="from 0 to 1, not '2'"):
        Setting(2, "too high", 0, 1)
    with pytest.raises(ValueError, match="one of off, on, not 'maybe'"):
        Setting("maybe", "no choice", choices=OFF_ON)


def test_declarations_import_nothing_of_the_house_and_no_numpy() -> None:
    path = Path(setting_module.__file__)
    assert sources(path) == (path,)
    assert "numpy" not in path.read_text() and "numba" not in path.read_text()
