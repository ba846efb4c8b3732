"""The one settings tree: every setting of the deployment, read once, all errors told at once.

Values come from (first wins) arguments, environment variables `SOMA_<FIELD>` (`__` for nesting, as
in `SOMA_INTEGRATOR__ALPHA`), and files of the same names in the folder `SOMA_SECRETS_DIR`.
Addresses left empty are those of the local stack, which notes them in `SOMA_HOME/stack.json`.
Nothing else in the project reads the environment. What differs per tenant isn't here: it comes in
band. A processor's settings are declared in its folder (agents/kit/setting.py), all others as
fields of a model (`fields`).
"""

from agents.settings.groups import (
    ApiSettings,
    GatewaySettings,
    JournalSettings,
    OutboxDefaults,
    ProjectionSettings,
)
from agents.settings.reading import load
from agents.settings.tree import HIDDEN, LOCAL_PARTITIONS, Settings, SettingsError

__all__ = [
    "HIDDEN",
    "LOCAL_PARTITIONS",
    "ApiSettings",
    "GatewaySettings",
    "JournalSettings",
    "OutboxDefaults",
    "ProjectionSettings",
    "Settings",
    "SettingsError",
    "load",
]
