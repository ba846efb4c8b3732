"""The examples in this process, whose catalogue may be there already: benchmarks, proofs, tests.

A worker gets them by SOMA_PLUGINS (`ENVIRONMENT`).
"""

from ops.examples import PLUGIN
from topics.catalogue import CATALOGUE
from topics.plugins import VARIABLE, bring, plugins
from topics.schemas import schemas

ENVIRONMENT = {VARIABLE: "ops.examples"}


def install() -> None:
    """Bring their topics and schemas. A second call finds them done."""
    if PLUGIN in plugins() or PLUGIN.topics[0].name in CATALOGUE:
        return
    bring(PLUGIN, CATALOGUE)
    if PLUGIN.schemas is not None:
        schemas().add(PLUGIN.schemas)
