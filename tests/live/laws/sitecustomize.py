"""Python runs this first where this folder is in PYTHONPATH: one more processor, `sick`."""

from pathlib import Path

import agents
from topics.catalogue import CATALOGUE, Topic

agents.__path__.append(str(Path(__file__).parent))
CATALOGUE["soma.sick.state"] = Topic(
    "soma.sick.state", "gateway_state", "tenant", "as the processor's source", ("sick",), ("sick",),
    cleanup="compact",
)  # fmt: skip
