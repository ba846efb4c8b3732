"""The integrator room: predictor updates in, fused frames out, and events when their fusion drifts.

See `round` for what it computes.
"""

from agents.engine.processor import SRC_BATCH, SRC_NAMES, SRC_SCRATCH, Processor
from agents.integrator.events import TALLIES
from agents.integrator.fold import IntegratorFold
from agents.integrator.loop import REASONS
from agents.integrator.settings import SETTINGS
from agents.integrator.state import TENANTS
from agents.policy.policies import policy_of

PROCESSOR = Processor(
    name="integrator",
    source="cog.predictor.updates",
    sinks=("cog.global.frame", "cog.fusion.drift.events", "cog.fusion.rollback.events"),
    state_schema="integrator_state",
    law=4,  # 4: frames name the policy; 3: config_version is a version, no count
    settings=SETTINGS,
    make=IntegratorFold,
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
            "policy": SRC_SCRATCH,
        },
        "cog.fusion.drift.events": dict.fromkeys(
            ("tenant", "frame_id", "observation_id", "leader"), SRC_SCRATCH
        ),
        "cog.fusion.rollback.events": dict.fromkeys(
            ("tenant", "frame_id", "reason", "from.key", "from.item", "to.key", "to.item"),
            SRC_SCRATCH,
        ),
    },
    state_src=TENANTS.src | {"policies.item": SRC_SCRATCH, "bundles.item": SRC_SCRATCH},
    tallies=TALLIES,
)
