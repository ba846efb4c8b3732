"""What became of one record that was folded anew: its outputs, or why it wasn't folded."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agents.engine import reasons
from agents.engine.dead_letters import DeadLetters
from agents.engine.plan import Plan
from agents.engine.processor import Fold, Place
from agents.engine.workspace import Workspace
from agents.history.outputs import written
from topics import codec

FOLDED, CONTROL, FORWARDED, DEAD = "folded", "control", "forwarded", "dead_letter"
_KINDS = {reasons.OK: FOLDED, reasons.DONE: CONTROL, reasons.MISROUTED: FORWARDED}


class Folded(NamedTuple):
    """A record's fate. `reason` and `detail` are a dead letter's."""

    fate: str  # one of the four above
    reason: str
    detail: str
    outputs: Mapping[str, Sequence[Mapping[str, Any]]]  # by the sink's name in the catalogue


def folded(
    plan: Plan, place: Place, ws: Workspace, letters: DeadLetters, fold: Fold
) -> Folded | None:
    """Of the last record of a workspace that was just folded; None: it holds none."""
    if not ws.n:
        return None
    r = ws.n - 1
    status = int(ws.status[r])
    fate, reason, detail = _KINDS.get(status, DEAD), "", ""
    if fate == DEAD:
        reason = reasons.reason(plan.processor, status)
        detail = letters.details.get(r) or reasons.detail(plan.processor, status)
    outputs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in plan.processor.sinks}
    for one in written(ws, plan, fold, place):
        if one.cause == ws.offs[r] and one.value is not None:
            outputs[plan.processor.sinks[one.sink]].append(codec.decode_ours(one.value)[1])
    return Folded(fate, reason, detail, outputs)
