"""Processors that aren't part of the product: what benchmarks, proofs and the contract suite run.

They are also how a package of one's own looks (`SOMA_PLUGINS=ops.examples`).
"""

from pathlib import Path

from topics.plugins import Plugin
from topics.topic import DAY_MS, Topic, state

COUNTS = "examples.counts"
PAUSES = "examples.pauses"
WEIGHTS = "examples.weights"


def _sink(name: str, schema: str, writer: str) -> Topic:
    return Topic(
        name, schema, "tenant", "tenant", (writer,), ("operators",), retention_ms=7 * DAY_MS
    )


PLUGIN = Plugin(
    processors={
        "counting": "ops.examples.counting",
        "pauses": "ops.examples.pauses",
        "weighing": "ops.examples.weighing",
    },
    sources=dict.fromkeys(("counting", "pauses", "weighing"), "cog.observations"),
    topics=(
        _sink(COUNTS, "observation_count", "counting"),
        state("counting", "tenant"),
        _sink(PAUSES, "observation_pause", "pauses"),
        state("pauses", "tenant 0x1f domain"),
        _sink(WEIGHTS, "observation_weight", "weighing"),
        state("weighing", "tenant"),
    ),
    schemas=Path(__file__).parent / "avro",
)
