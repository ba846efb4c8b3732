"""One declaration of a setting: whatever reads it takes the same values."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agents.engine.plan import defaults_of
from agents.engine.processor import Context, Control, Place, Processor
from agents.engine.registry import processor_names
from agents.kit.setting import Setting
from agents.settings import Settings, SettingsError, load
from agents.settings.reading import declared
from tests.contract.harness import PROCESSORS

# Without the examples: a process has their settings where SOMA_PLUGINS names them at its start.
HOUSE = [one for one in PROCESSORS if one.name in processor_names()]
BY_NAME = {one.name: one for one in HOUSE}
ALL = [(one, name) for one in BY_NAME.values() for name in one.settings]
each = pytest.mark.parametrize(
    ("processor", "name"), ALL, ids=[f"{one.name}.{name}" for one, name in ALL]
)
JUNK = ["nan", "inf", "-inf", "1e400", "0x10", "1_0", " 1 ", "true", "on", "OFF", "-0", "٣", "1,5"]


def near(setting: Setting) -> Iterator[str]:
    """Texts at its limits, and beside them."""
    for limit in (setting.low, setting.high):
        if limit is not None:
            for value in (limit, math.nextafter(limit, -math.inf), math.nextafter(limit, math.inf)):
                yield repr(float(value))
            yield from (str(int(limit)), str(int(limit) - 1), str(int(limit) + 1), f"{limit:e}")
    yield from setting.choices


def texts(setting: Setting) -> st.SearchStrategy[str]:
    visible = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
    numbers = st.floats().map(repr) | st.integers().map(str)
    return st.sampled_from([*near(setting), *JUNK]) | numbers | visible


def of_deployment(variable: str, text: str) -> Settings | None:
    """The settings with a variable of the environment; None if it is refused, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, text)
        try:
            return load()
        except SettingsError as error:
            assert str(error).startswith(f"The settings can't be used: {variable}: ")
            assert len(str(error).splitlines()) == 1
            return None


def of_tenant(processor: Processor, name: str, text: str) -> bool:
    """Whether a control record of that text is taken."""
    fold = processor.make(Context(Place("00000000", 0), {}))
    refused = fold.control(Control("setting", "t", name, text, 0, 0, 0))
    assert refused is None or name in refused
    return refused is None


@each
@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)  # fmt: skip
@given(st.data())
def test_what_the_environment_takes_a_control_record_takes(
    processor: Processor, name: str, data: st.DataObject
) -> None:
    setting = processor.settings[name]
    text = data.draw(texts(setting))
    found = of_deployment(f"SOMA_{processor.name}__{name}".upper(), text)
    assert (found is not None) == of_tenant(processor, name, text), text
    if found is not None and text:
        value = found.given(processor.name)[name]
        assert value == setting.parse(text) and type(value) is type(setting.default)
        defaults = defaults_of(processor, found)
        assert setting.parse(defaults[name]) == value
        processor.make(Context(Place("00000000", 0), defaults))


@given(st.integers(0, 400_000_000))
@settings(max_examples=30, deadline=None)
@example(60)
@example(315_360_000)
def test_the_common_time_to_forget_suits_every_processor(seconds: int) -> None:
    found = of_deployment("SOMA_FORGET_AFTER_S", str(seconds))
    assert (found is not None) == (60 <= seconds <= 315_360_000)
    for processor in HOUSE if found is not None else ():
        assert found is not None
        said = defaults_of(processor, found).get("forget_after_s")
        assert said == str(seconds) or processor.name == "memory"  # whose rows last
        processor.make(Context(Place("00000000", 0), defaults_of(processor, found)))


def test_declarations_are_those_of_the_processors() -> None:
    assert declared() == {one.name: one.settings for one in HOUSE}
