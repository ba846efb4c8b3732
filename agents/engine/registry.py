"""The rooms there are: found in the folders of agents/, loaded only when chosen."""

import importlib
import pkgutil
from collections.abc import Iterable
from importlib.util import find_spec

import agents
from agents.engine.processor import Processor

PROJECTIONS = "projections"  # the room that writes to stores; it folds nothing
OUTBOX = "outbox"  # the room that relays from a store; neither does it
GATEWAY = "gateway"  # the room that calls the remote memory service
_SERVICES = (PROJECTIONS, OUTBOX, GATEWAY)


def rooms() -> list[str]:
    """Names of all processors: every folder of agents/ whose agent.py declares one."""
    found = [entry.name for entry in pkgutil.iter_modules(agents.__path__) if entry.ispkg]
    return sorted(name for name in found if find_spec(f"agents.{name}.agent") is not None)


def processors(chosen: Iterable[str] = ()) -> dict[str, Processor]:
    """The processors of the chosen rooms (default: all), by name.

    Raises ValueError, which names the unknown rooms.
    """
    known = rooms()
    wanted = [name for name in chosen if name not in _SERVICES] or ([] if tuple(chosen) else known)
    if unknown := sorted(set(wanted) - set(known)):
        raise ValueError(
            f"no such room: {', '.join(unknown)}; there are {', '.join([*known, *_SERVICES])}"
        )
    found = {}
    for name in sorted(set(wanted)):
        processor = importlib.import_module(f"agents.{name}.agent").PROCESSOR
        if not isinstance(processor, Processor) or processor.name != name:
            raise TypeError(
                f"agents/{name}/agent.py must declare PROCESSOR, a Processor named {name!r}"
            )
        found[name] = processor
    return found
