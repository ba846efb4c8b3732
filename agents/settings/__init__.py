"""The one settings tree: every setting of the deployment, read once, all errors told at once.

Values come from (first wins) arguments, environment variables `SOMA_<FIELD>` (`__` for nesting, as
in `SOMA_INTEGRATOR__ALPHA`), and files of the same names in the folder `SOMA_SECRETS_DIR`.
Addresses left empty are those of the local stack, which notes them in `SOMA_HOME/stack.json`.
Nothing else in the project reads the environment. What differs per tenant isn't here: it comes in
band. A processor's settings are declared in its folder (agents/kit/setting.py), all others as
fields of a model (`fields`).

The tree is loaded when something of it is asked for: `soma X --help` needs no setting.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agents.settings.errors import SettingsError

if TYPE_CHECKING:
    from agents.settings.groups import (
        ApiSettings,
        GatewaySettings,
        JournalSettings,
        OutboxDefaults,
        ProjectionSettings,
        RhoSettings,
    )
    from agents.settings.tree import HIDDEN, LOCAL_PARTITIONS, Settings

__all__ = [
    "HIDDEN",
    "LOCAL_PARTITIONS",
    "ApiSettings",
    "GatewaySettings",
    "JournalSettings",
    "OutboxDefaults",
    "ProjectionSettings",
    "RhoSettings",
    "Settings",
    "SettingsError",
    "load",
]


def load(*, whole: bool = False) -> "Settings":
    """The settings in force, as `reading.load` reads them. `SettingsError`."""
    from agents.settings import reading

    return reading.load(whole=whole)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(name)
    places = (import_module(f"{__name__}.{module}") for module in ("tree", "groups"))
    return next(getattr(place, name) for place in places if hasattr(place, name))
