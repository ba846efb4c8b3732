"""What every processor must keep, as tests: the house's own and those of other people's packages.

In a package of one's own (needs pytest and hypothesis, as `soma-stream[test]` brings them):

    from agents.contract import suite

    TestContract = suite(PROCESSOR, samples)

`agents.contract.plugin` lets pytest find what the package brings before it is installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.contract.suite import Contract, suite
    from agents.contract.trials import Samples, Subject

__all__ = ["Contract", "Samples", "Subject", "suite"]

_HOMES = {
    "Contract": "agents.contract.suite",
    "Samples": "agents.contract.trials",
    "Subject": "agents.contract.trials",
    "suite": "agents.contract.suite",
}


def __getattr__(name: str) -> Any:
    """Imported when it is used: the plugin is there before the catalogue."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found  # over the module of this name that the import has put here
    return found
