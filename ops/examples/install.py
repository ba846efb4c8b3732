"""The examples in this process, whose catalogue may be there already: benchmarks, proofs, tests.

A worker gets them by SOMA_PLUGINS (`ENVIRONMENT`).
"""

from ops.examples import PLUGIN
from topics.catalogue import CATALOGUE
from topics.plugins import VARIABLE, Plugin, bring, plugins
from topics.schemas import schemas

ENVIRONMENT = {VARIABLE: "ops.examples"}


def install(plugin: Plugin = PLUGIN) -> None:
    """Bring their topics and schemas, or another package's. A second call finds them done."""
    if plugin in plugins() or plugin.topics[0].name in CATALOGUE:
        return
    bring(plugin, CATALOGUE)
    if plugin.schemas is not None:
        schemas().add(plugin.schemas)
