"""cog.teach.feedback -> cog.reward.events: what a user thinks of a frame is a reward for it."""

from dataclasses import dataclass
from typing import Any

from agents.kit import Emit, Reads, Refuse, RowProcessor

SOURCE, SINK = "cog.teach.feedback", "cog.reward.events"
TEACH = "teach"  # the source of rewards that are made here
WORST, BEST = 1.0, 5.0
RATING = "rating"


@dataclass(slots=True)
class Brought:
    """Nothing needs to be known."""

    some: bool = False


def user_reward(rating: float) -> float:
    """A rating 1..5 as a reward -1..1."""
    middle = (WORST + BEST) / 2
    return (rating - middle) / (BEST - middle)


def reward(_: Brought, said: Any, out: Emit) -> None:
    """Make a reward of a rating."""
    out.forget()
    if not WORST <= said.rating <= BEST:  # NaN isn't, either
        raise Refuse(f"rating: from {WORST:g} to {BEST:g}, not {said.rating}", RATING)
    out.to(SINK, {
        "frame_id": said.frame_id, "tenant": said.tenant, "r_user": user_reward(said.rating),
        "source": TEACH, "ts": said.ts,
    })  # fmt: skip


PROCESSOR = RowProcessor(
    "feedback", source=SOURCE, sinks=(SINK,), row=Brought, fold=reward, reads=Reads(domain=None),
    reasons={RATING: f"the rating isn't from {WORST:g} to {BEST:g}"},
)  # fmt: skip
