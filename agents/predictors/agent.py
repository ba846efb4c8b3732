"""The predictors as a stream processor: cog.observations -> cog.predictor.updates.

State: one row for each (tenant, domain), 20 bytes a number of its vector and 60 more; one for each
tenant with settings of its own, which stay until they are taken back; domains leave when silent.
"""

from agents.engine.processor import SRC_SCRATCH, Processor
from agents.predictors.fold import PredictorFold
from agents.predictors.kernels import REASONS
from agents.predictors.settings import SETTINGS

UPDATES = "cog.predictor.updates"

PROCESSOR = Processor(
    name="predictors",
    source="cog.observations",
    sinks=(UPDATES,),
    state_schema="predictors_state",
    law=1,
    settings=SETTINGS,
    make=PredictorFold,
    reasons=REASONS,
    sink_src={
        UPDATES: {
            "predictor_type": SRC_SCRATCH,
            "model_version": SRC_SCRATCH,
            "observation_id": SRC_SCRATCH,
        }
    },
    state_src={
        "x": SRC_SCRATCH,
        "mean": SRC_SCRATCH,
        "m2": SRC_SCRATCH,
        "settings.key": SRC_SCRATCH,
    },
)
