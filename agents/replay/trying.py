"""What a job tries, live or in the past: of which processor, and which settings."""

from agents.engine.plan import Plan
from agents.engine.registry import processor_names, processors
from agents.history.plans import plan_of
from agents.history.trial import checked
from agents.replay.command import Command, changes_of
from agents.replay.modes import CantReplayError
from agents.settings import Settings


def tried(settings: Settings, command: Command) -> tuple[str, Plan, dict[str, str]]:
    """The processor's name, its plan, and the changes. CantReplayError; HistoryError passes."""
    try:
        name, changes = changes_of(command.settings)
    except ValueError as error:
        raise CantReplayError(f"settings: {error}") from error
    if name not in processor_names():
        listed = ", ".join(processor_names())
        raise CantReplayError(f"settings: there is no processor {name!r}; there are {listed}")
    try:
        plan = plan_of(settings, processors([name])[name])
        return name, plan, checked(plan, changes)
    except ValueError as error:
        raise CantReplayError(f"settings: {name}: {error}") from error
