"""`soma canary`: what is refused before anything is said, and who comes into which group."""

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from agents.cli import main
from agents.commands.canary import ranked, share

NAMES = st.sets(st.text("abcdefgh0123", min_size=1, max_size=6), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--set alpha=4 --percent 10", "say which by --processor"),
        ("--set colour=4 --percent 10", "There is no setting 'colour'"),
        ("--set margin=much --percent 10", "a number from 0 to 1"),
        ("--set margin=-1 --percent 10", "a number from 0 to 1"),
        ("--set margin@state=.1 --percent 10", "can't be set for a domain"),
        ("--set margin --percent 10", "give NAME=VALUE"),
        ("--set margin= --percent 10", "give NAME=VALUE"),
        ("--set margin=.1 --percent 0", "above 0 up to 100, not 0"),
        ("--set margin=.1 --percent 101", "above 0 up to 100, not 101"),
        ("--set margin=.1 --percent nan", "above 0 up to 100, not nan"),
        ("--set margin=.1", "one of the two"),
        ("--set margin=.1 --percent 5 --tenants a", "one of the two"),
        ("--set margin=.1 --percent 5 --for 1", "60<=x<=86400"),
    ],
)
def test_what_cant_be_is_refused_in_a_line(words: str, why: str) -> None:
    done = CliRunner().invoke(main, ["canary", "start", *words.split()])
    assert done.exit_code != 0 and why in done.output, done.output


@given(NAMES, st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_share_is_stable_and_a_greater_one_has_it(
    names: set[str], one: float, other: float
) -> None:
    order = ranked(names, "integrator.margin")
    assert order == ranked(sorted(names), "integrator.margin") and set(order) == names
    small, large = share(order, min(one, other)), share(order, max(one, other))
    assert small == large[: len(small)] and 1 <= len(small) <= len(large) <= len(names)


def test_another_setting_is_tried_on_others() -> None:
    names = [f"t{k}" for k in range(200)]
    first, second = (set(share(ranked(names, n), 10)) for n in ("a.x", "a.y"))
    assert len(first) == len(second) == 20 and len(first & second) < 10
