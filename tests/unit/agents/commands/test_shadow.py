"""`soma shadow`: what is refused before anything is said."""

import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.replay.command import Command
from agents.replay.modes import SAMPLE_MAX, SHADOW, refusal_of

NOW = 1_800_000_000_000_000  # microseconds


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--set alpha=4 --percent 10", "say which by --processor"),
        ("--set colour=4 --percent 10", "There is no setting 'colour'"),
        ("--set margin=much --percent 10", "a number from 0 to 1"),
        ("--set margin@state=.1 --percent 10", "not a domain's"),
        ("--set margin --percent 10", "give NAME=VALUE"),
        ("--set margin= --percent 10", "give NAME=VALUE"),
        ("--set margin=.1 --percent 0", "above 0 up to 100, not 0"),
        ("--set margin=.1 --percent 101", "above 0 up to 100, not 101"),
        ("--set margin=.1 --percent nan", "above 0 up to 100, not nan"),
        ("--set margin=.1", "one of the two"),
        ("--set margin=.1 --percent 5 --tenants a", "one of the two"),
        ("--set margin=.1 --set margin=.2 --percent 5", "is given twice"),
        ("--set margin=.1 --set gradient=.2 --percent 5", "a shadow is of one"),
        ("--percent 5", "Missing option '--set'"),
    ],
)
def test_what_cant_be_is_refused_in_a_line(words: str, why: str) -> None:
    done = CliRunner().invoke(main, ["shadow", "start", *words.split()])
    assert done.exit_code != 0 and why in done.output, done.output


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"tenants": ()}, f"1 to {SAMPLE_MAX}, not 0"),
        ({"tenants": tuple(f"t{k}" for k in range(SAMPLE_MAX + 1))}, f"1 to {SAMPLE_MAX}"),
        ({"settings": ("fusion=hedge",)}, "PROCESSOR.NAME=VALUE"),
        ({"since": "2025-01-01T00:00:00Z"}, "since: not of a shadow"),
        ({"apply": True, "target": "a"}, "apply, target: not of a shadow"),
    ],
)
def test_a_command_that_cant_be_one_is_refused(given: dict[str, object], why: str) -> None:
    good: dict[str, object] = {"settings": ("integrator.fusion=hedge",), "tenants": ("t",)}
    assert refusal_of(Command(mode=SHADOW, **good), NOW) is None  # type: ignore[arg-type]
    refused = refusal_of(Command(mode=SHADOW, **good | given), NOW)  # type: ignore[arg-type]
    assert refused is not None and why in refused
