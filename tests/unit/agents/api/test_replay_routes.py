"""What can be started on the topic can be started by HTTP, and nothing else."""

from dataclasses import fields
from typing import get_args

from agents.api.replay_routes import CommandIn
from agents.replay.command import TYPES, Command
from agents.replay.modes import MODES


def test_a_body_has_the_fields_types_and_modes_of_a_command() -> None:
    given = CommandIn.model_fields
    assert set(given) == {"id", "type", *(one.name for one in fields(Command))}
    assert get_args(given["mode"].annotation) == MODES
    assert sorted(get_args(given["type"].annotation)) == sorted(TYPES)
    defaults = CommandIn().model_dump(exclude={"id", "type", "mode"})
    assert not any(defaults.values())
