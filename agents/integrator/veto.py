"""The veto: a policy is asked before another domain comes to lead.

It is asked at a record whose round says that the lead must change (`round.contest`: a challenger is
ahead by the margin and the leader has dwelt; or the leader isn't fresh; or there is none yet). The
domain that should lead is the candidate; with its name go the weights that the frame publishes.
Not asked is: about a candidate that was denied within veto_retry_ms of event time, on either side
(one is remembered per tenant, the latest); and, of a remote policy, while it owes the tenant an
answer. Then the lead stays as it is, and the frame says none.

- allow: the candidate leads from this record on.
- deny: the leader stays, fresh or not; where there was none, leader is "". Without a fresh leader
  confidence is 0; without any dwell_ms is 0. The candidate counts as denied at this event time.
- override: the named domain leads from this record on (if it led already, its dwell goes on); the
  candidate counts as denied. A name that isn't among the weights makes it an error.
- error: as deny, or, where the policy is to fail open, as allow. The rationale says what is wrong.

Embedded policies answer at the record: its frame carries the outcome as veto, and the rationale.
A remote one is told the question (the frame says pending and keeps the leader; its frame_id is the
question's id) and answers by a control record, which acts at its own place in the order:

- Only the id that the tenant waits for counts; others (late, doubled, unknown) change nothing.
- Event time is then the latest that any of the tenant's domains has shown: dwell and denial count
  from it. Fresh are the domains of the tenant's last round, with the weights published then.
- allow: the candidate comes to lead if it is fresh and the leader isn't, or is behind it by more
  than the margin; else nothing changes. override: the named domain leads if it is fresh, else it
  counts as an error. deny and error as above.
- The tenant's next frame carries the answer's outcome as veto, without a rationale (allow: if it
  changed the lead), unless it says pending about a new question.

So veto is none where nothing was asked or answered since the tenant's frame before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from agents.engine.processor import Decision
from agents.integrator.rows import Asked, State
from agents.integrator.settings import MARGIN

NONE, ALLOW, DENY, OVERRIDE, PENDING, ERROR = range(6)  # the frame's enum
WORDS = ("none", "allow", "deny", "override", "pending", "error")
NOT_FRESH = "override names no fresh domain"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision as it acts: who leads (None: as before), whether the candidate is denied."""

    veto: int
    leader: str | None
    denied: bool
    rationale: str = ""


def verdict(
    decision: Decision, candidate: str, fresh: Mapping[str, float], *, open_: bool
) -> Verdict:
    """What follows from a decision; `open_`: an error counts as allow."""
    outcome, why = decision.outcome, decision.rationale
    if outcome == "override" and decision.leader not in fresh:
        outcome, why = "error", NOT_FRESH
    if outcome == "allow":
        return Verdict(ALLOW, candidate, False, why)
    if outcome == "override":
        return Verdict(OVERRIDE, decision.leader, decision.leader != candidate, why)
    if outcome == "deny":
        return Verdict(DENY, None, True, why)
    return Verdict(ERROR, candidate if open_ else None, not open_, why)


def apply(state: State, r: int, told: Verdict, candidate: str, t: int) -> None:
    """Let a verdict act on the tenant at event time t."""
    tenant = state.table.rows[r]
    code = state.code(candidate.encode())  # a remote answer's may have been forgotten meanwhile
    if told.denied:
        tenant["denied"], tenant["denied_at"] = code, t
    elif tenant["denied"] == code:
        tenant["denied"], tenant["denied_at"] = -1, 0
    if told.leader is not None:
        leader = state.code(told.leader.encode())
        if leader != tenant["leader"]:
            tenant["leader"], tenant["leader_since"] = leader, t
            state.changes[0] += 1


def fresh_now(state: State, r: int) -> tuple[dict[str, float], int]:
    """The domains of the tenant's last round with their weights, and its latest event time."""
    first, n = (int(state.table.rows[name][r]) for name in ("at", "n"))
    cells = state.table.pool.data[first : first + n]
    weights = {
        state.text(int(cell["domain"])): float(cell["published"])
        for cell in cells
        if cell["published"] >= 0.0
    }
    return weights, int(max(cells["seen"], default=0))


def may_lead(state: State, r: int, candidate: str, fresh: Mapping[str, float]) -> bool:
    """Whether a candidate that was allowed may still come to lead."""
    tenant = state.table.rows[r]
    if candidate not in fresh:
        return False
    leader = state.text(int(tenant["leader"])) if tenant["leader"] >= 0 else ""
    margin = float(state.settings.table[tenant["settings"], MARGIN])
    return leader not in fresh or fresh[candidate] - fresh[leader] > margin


def answer(state: State, r: int, asked: Asked, decision: Decision, *, open_: bool) -> int:
    """Let a remote policy's answer act; returns the veto that it comes to."""
    fresh, t = fresh_now(state, r)
    told = verdict(decision, asked.leader, fresh, open_=open_)
    tenant = state.table.rows[r]
    tenant["question"] = -1
    stays = told.leader == asked.leader and not may_lead(state, r, asked.leader, fresh)
    if stays and told.veto != OVERRIDE:
        told = Verdict(NONE if told.veto == ALLOW else told.veto, None, False)
    apply(state, r, told, asked.leader, t)
    tenant["said"] = told.veto
    return told.veto


def read_answer(outcome: str, value: str) -> tuple[str, Decision]:
    """(id, decision) of a control record's value; ValueError says what is wrong."""
    try:
        body = json.loads(value)
        return str(body["id"]), Decision(outcome, str(body["leader"]), str(body["rationale"]))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"an answer: not {{id, leader, rationale}}: {error!r:.100}") from None
