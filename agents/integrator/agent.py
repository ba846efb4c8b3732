"""The integrator room: predictor updates in, fused frames out. See `round` for what it computes."""

from agents.engine.processor import SRC_BATCH, SRC_NAMES, SRC_SCRATCH, Processor
from agents.integrator.fold import REASONS, Integrator
from agents.integrator.policy import policy_of
from agents.integrator.settings import SETTINGS

PROCESSOR = Processor(
    name="integrator",
    source="cog.predictor.updates",
    sinks=("cog.global.frame",),
    state_schema="integrator_state",
    law=1,
    settings={setting.name: setting.help for setting in SETTINGS},
    make=Integrator,
    reasons=REASONS,
    policy=policy_of,
    sink_src={
        "cog.global.frame": {
            "frame_id": SRC_SCRATCH,
            "tenant": SRC_BATCH,
            "domain": SRC_BATCH,
            "leader": SRC_NAMES,
            "weights.key": SRC_NAMES,
            "errors.key": SRC_NAMES,
            "rationale": SRC_SCRATCH,
            "observation_id": SRC_BATCH,
        }
    },
    state_src={
        "domains.item": SRC_NAMES,
        "leader": SRC_NAMES,
        "settings.key": SRC_SCRATCH,
    },
)
