"""The segmentation processor: fused frames in, a segment_boundary for the end of each segment.

State: a row for each (tenant, domain), 0.4 to 1.4 KB; one for each tenant, about 80 bytes.
"""

from agents.engine.processor import SRC_BATCH, SRC_NAMES, SRC_SCRATCH, Processor
from agents.segmentation.fold import REASONS, TALLIES, Segmentation
from agents.segmentation.settings import SETTINGS
from agents.segmentation.state import SERIES, TENANTS

PROCESSOR = Processor(
    name="segmentation",
    source="cog.global.frame",
    sinks=("cog.segments",),
    state_schema="segmentation_state",
    law=3,
    settings=SETTINGS,
    make=Segmentation,
    reasons=REASONS,
    tallies=TALLIES,
    sink_src={
        "cog.segments": {
            "segment_id": SRC_SCRATCH,
            "tenant": SRC_BATCH,
            "domain": SRC_NAMES,
            "frame_id": SRC_BATCH,
            "leader": SRC_NAMES,
        }
    },
    state_src=SERIES.src | TENANTS.src,
)
