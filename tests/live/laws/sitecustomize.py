"""Python runs this first where this folder is in PYTHONPATH: two more processors for it to find."""

from pathlib import Path

import agents
from topics.catalogue import CATALOGUE, Topic

agents.__path__.append(str(Path(__file__).parent))
for name in ("sick", "well"):
    CATALOGUE[f"soma.{name}.state"] = Topic(
        f"soma.{name}.state", "gateway_state", "tenant", "as the processor's source", (name,),
        (name,), cleanup="compact",
    )  # fmt: skip
