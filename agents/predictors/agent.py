"""The predictors as a stream processor: cog.observations -> cog.predictor.updates.

Beside them cog.next.events, one for each observation where the tenant wants them, and
cog.predictor.calibration, how true a domain's confidences were. An observation that ends its
tenant's sleep asks for that on brain.sleep.requests.

State: one row for each (tenant, domain), 30 bytes a number of its vector and some 130 to 250 more;
one for each tenant with settings of its own, which stay until they are taken back; domains leave
when silent.
"""

from agents.engine.processor import SRC_SCRATCH, Processor
from agents.kit.emit import layout_of, scratch_fields
from agents.predictors.fold import PredictorFold
from agents.predictors.kernels import REASONS
from agents.predictors.settings import SETTINGS
from agents.predictors.state import DOMAINS

UPDATES = "cog.predictor.updates"
CALIBRATIONS = "cog.predictor.calibration"
NEXT_EVENTS = "cog.next.events"
SLEEP_REQUESTS = "brain.sleep.requests"

PROCESSOR = Processor(
    name="predictors",
    source="cog.observations",
    sinks=(UPDATES, CALIBRATIONS, NEXT_EVENTS, SLEEP_REQUESTS),
    state_schema="predictors_state",
    law=2,  # 1 had a variance for scale, and a temperature for calibration
    settings=SETTINGS,
    make=PredictorFold,
    reasons=REASONS,
    sink_src={
        UPDATES: {
            "predictor_type": SRC_SCRATCH,
            "model_version": SRC_SCRATCH,
            "observation_id": SRC_SCRATCH,
        },
        CALIBRATIONS: {"observation_id": SRC_SCRATCH},
        NEXT_EVENTS: {"observation_id": SRC_SCRATCH, "predicted_state": SRC_SCRATCH},
        SLEEP_REQUESTS: scratch_fields(layout_of(SLEEP_REQUESTS)),
    },
    state_src=DOMAINS.src,
)
