"""The processor kit: a processor costs one function. `RowProcessor` says how."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.engine.processor import Reads
    from agents.kit.declare import RowProcessor
    from agents.kit.driver import Driver
    from agents.kit.emit import Emit
    from agents.kit.errors import Refuse
    from agents.kit.setting import Setting

__all__ = ["Driver", "Emit", "Reads", "Refuse", "RowProcessor", "Setting"]

_HOMES = {
    "Driver": "agents.kit.driver",
    "Emit": "agents.kit.emit",
    "Reads": "agents.engine.processor",
    "Refuse": "agents.kit.errors",
    "RowProcessor": "agents.kit.declare",
    "Setting": "agents.kit.setting",
}


def __getattr__(name: str) -> Any:
    """What the kit offers, imported when it is used: settings alone come without the engine."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
