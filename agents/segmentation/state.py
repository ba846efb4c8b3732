"""The tables of segmentation: series, each with its rings, and tenants."""

import numpy as np

from agents.kit.column_table import Beside
from agents.kit.columns import TENANT_HEAD, TableSchema
from agents.segmentation.rule import COUNTS, NUMBERS, RING, RUNS, Places
from topics.layout import by_field

SERIES = TableSchema(
    "segmentation_state",
    packed=("values", "confidences", "times", "leaders", "lasted", "runs"),
    lists={"counts": COUNTS, "numbers": NUMBERS},
    absent={"leader": 0, "measured": 0},
    extra={"at": 0, "size": 0},
    first={"peak": -np.inf, "g_since": -1, "h_since": -1, "wild": 0},
    limits={"start": (0, np.inf)},
)
S = by_field(Places, SERIES.place)
RINGS = {
    "value": Beside((RING,)),
    "ts": Beside((RING,), np.int64),
    "confidence": Beside((RING,), np.float32),
    "leader": Beside((RING,), np.int32, -1, names=True),
    "steps": Beside((RING,)),
}
RUN_LENGTHS = np.dtype((np.float64, (3, RUNS + 1)))  # of a series


TENANTS = TableSchema(
    "segmentation_state",
    head=TENANT_HEAD,
    only=(
        "leader",  # -1: nobody
        "measured",  # frames under the leader that had its error
        # From here on as in rule.Places.
        "seen", "touched", "start", "start_ts", "boundaries", "error_sum", "confidence_sum", "peak",
    ),
    absent={"wild": 0},
    limits={"start": (0, np.inf)},
)  # fmt: skip
