"""cog.global.frame -> cog.reward.events: frames of tenants with `learning` on, for the learner.

A processor reads one topic; what the learner needs of another is brought to its source, in order.
"""

from dataclasses import dataclass
from typing import Any

from agents.kit import Emit, Reads, RowProcessor
from agents.kit.setting import OFF_ON, Setting

FRAMES, SINK = "cog.global.frame", "cog.reward.events"
LESSON = "lesson"
LEARNING = "learning"
SETTINGS = {
    LEARNING: Setting(
        "off", "whether rewards and regret change the integrator's learned_temperature and prior",
        choices=OFF_ON,
    )
}  # fmt: skip
BROUGHT = "soma_lessons_total"


@dataclass(slots=True)
class Brought:
    """Whether the learner has something of a tenant."""

    some: bool = False


def bring(row: Brought, frame: Any, out: Emit) -> None:
    """Bring a frame to the learner; or say to it that no more will come."""
    if out.setting(LEARNING) == OFF_ON[1]:
        row.some = True
        out.to(SINK, {
            "frame_id": frame.frame_id, "tenant": frame.tenant, "leader": frame.leader,
            "errors": frame.errors, "ended": False, "ts": frame.ts,
        })  # fmt: skip
        out.count(BROUGHT)
        return
    if row.some:
        out.to(SINK, {
            "frame_id": frame.frame_id, "tenant": frame.tenant, "ended": True, "ts": frame.ts,
        })  # fmt: skip
    out.forget()


PROCESSOR = RowProcessor(
    "lessons", source=FRAMES, sinks=(SINK,), row=Brought, fold=bring, settings=SETTINGS,
    switch=LEARNING, controls={SINK: LESSON}, reads=Reads(),
    counts={BROUGHT: "Frames brought to the learner."},
)  # fmt: skip
