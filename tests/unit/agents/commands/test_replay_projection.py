"""What a projection made anew is told on the command line, and how it is shown."""

from typing import Any

import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.commands import replay_projection
from agents.replay.command import Command
from agents.replay.modes import refusal_of

PLAN: dict[str, Any] = {
    "projection": "frames", "source": "cog.global.frame", "ranges": {"0": [5, 905]}, "lost": 1,
    "left_out": {"unreadable": 2}, "dry_run": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("projection",), "give --target: the projection"),
        (("projection", "--target", "frames", "--tenant", "t"), "is made anew whole: it takes"),
        (("projection", "--target", "frames", "--from", "5"), "is made anew whole"),
        (("projection", "--target", "frames", "--to", "mine"), "is made anew whole"),
        (("projection", "--target", "frames", "--apply"), "is made anew whole"),
        (("projection", "--target", "frames", "--set", "a.b=1"), "is made anew whole"),
        (("cog.observations", "--target", "frames"), "--target is of projection; a topic"),
    ],
)
def test_what_cant_be_meant_is_named(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(main, ["replay", "start", *words])
    assert done.exit_code == 1 and said in done.output, done.output


def test_what_the_command_line_says_the_processor_takes() -> None:
    given = dict.fromkeys(replay_projection.TAKES) | {"projection": "segments", "tenants": ()}
    found = replay_projection.record_of("projection", given)
    assert found is not None and "tenants" not in found
    said = {name: value for name, value in found.items() if value is not None}
    assert refusal_of(Command(**said), 0) is None


def test_a_plan_is_shown_with_what_will_be_gone() -> None:
    assert list(replay_projection.lines_of(PLAN)) == [
        "  frames from cog.global.frame",
        "  partition 0: offsets 5 to 905",
        "  1 row of records that the log no longer has: gone when it is in place",
        "  2 records left out: unreadable",
    ]
    assert list(replay_projection.lines_of({})) == []
