"""Two row processors of one source whose laws do what their records say: a package of one's own.

LAWS_SCHEMAS is the folder of their schemas where it isn't the one here.
"""

import os
from pathlib import Path

from topics.plugins import Plugin
from topics.topic import DAY_MS, Topic, state

OUT = "laws.out"
SCHEMAS = Path(__file__).parent / "avro"

PLUGIN = Plugin(
    processors={name: f"tests.live.laws.{name}" for name in ("sick", "well")},
    sources={"sick": "memory.events", "well": "memory.events"},
    topics=(
        Topic(OUT, "laws_out", "tenant", "tenant", ("sick", "well"), (), retention_ms=DAY_MS),
        state("sick", "tenant"),
        state("well", "tenant"),
    ),
    schemas=Path(os.environ.get("LAWS_SCHEMAS", SCHEMAS)),
)
