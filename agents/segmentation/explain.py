"""One frame in words: what it adds to a domain's series, how near each law is to a boundary."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from agents.engine.processor import SEP
from agents.kit.asleep import FREEZE, STATES
from agents.kit.columnar import ColumnarFold
from agents.kit.explaining import FROZEN, Case, Fields, load, num, seconds
from agents.kit.store import Store
from agents.segmentation import bocpd, glr, hmm
from agents.segmentation.agent import PROCESSOR
from agents.segmentation.detect import CPD, EVIDENCE, HMM, LEADER_CHANGE, MAX_DWELL
from agents.segmentation.rows import SINGLE, SeriesTable, TenantTable
from agents.segmentation.rule import COUNTS, NUMBERS, Bank, work
from agents.segmentation.settings import SETTINGS
from agents.segmentation.state import TENANTS

(SEGMENTS,) = PROCESSOR.sinks
KEY = f"a{SEP}b"  # of a row that is looked at by itself
SCORES = {  # what a boundary's score is, by its evidence
    "leader_change": "the new leader's weight above the old one's",
    "max_dwell": "ms that it lasted",
    "cpd": "evidence",
    "hmm": "probability of the new state",
    "threshold": "how far the error moved",
}


def explain(case: Case) -> list[str]:
    """What the laws made of a frame; see detect.py and frames.py."""
    if case.state == STATES[FREEZE]:
        return [FROZEN]
    domain = case.record["domain"]
    found = {one["evidence"]: one for one in case.outputs.get(SEGMENTS, ())}
    said = _leader(case, found)
    was, row = case.before.get(domain), case.after.get(domain)
    if row is None or (was is not None and was["seen"] == row["seen"]):
        return [*said, f"The frame has no error of {domain}: its series stays as it is."]
    error, last = case.record["errors"][domain], row["seen"] - 1
    moved = "" if was is None else f" after {num(_values(was)[-1])}"
    said.append(f"Frame {row['seen']} of {domain}: its error is {num(error)}{moved}.")
    if last < case.number("warmup"):
        return [*said, f"No law is asked before its frame {num(case.number('warmup') + 1)}."]
    said += _change_points(case, row, EVIDENCE[CPD] in found)
    if case.values["hmm"] == "on":
        said.append(_states(case, row, EVIDENCE[HMM] in found))
    if case.values["threshold"] == "on" and was is not None:
        step = abs(error - _values(was)[-1])
        least = num(case.number("gradient"))
        said.append(f"threshold: it moved by {num(step)}, and {least} is a boundary.")
    if case.number("max_dwell_ms") > 0 and EVIDENCE[MAX_DWELL] not in found:
        lasted = seconds(case.record["ts"] - row["start_ts"])
        most = num(case.number("max_dwell_ms"))
        said.append(f"max_dwell: the segment lasts for {lasted}, of {most} ms at most.")
    ended = [_boundary(one) for name, one in found.items() if name != EVIDENCE[LEADER_CHANGE]]
    length = row["seen"] - row["start"]
    return said + (ended or [f"No boundary: the segment goes on, with {length} frames."])


def _values(row: Fields) -> Any:
    """The last errors of a row, oldest first."""
    single = len(row["values"]) == SINGLE * len(row["times"])
    return np.frombuffer(row["values"], "<f4" if single else "<f8")


def _numbers(row: Fields) -> dict[str, float]:
    """The laws' own numbers, by their names in rule.Places."""
    whole = zip(COUNTS, row["counts"], strict=True)
    return dict(whole) | dict(zip(NUMBERS, row["numbers"], strict=True))


def bank_of(row: Fields) -> tuple[Bank, int]:
    """A series as the laws' kernels take it, and its place."""
    series = SeriesTable()
    fold = ColumnarFold(Store(SETTINGS, {}, TenantTable(TENANTS), series))
    load(fold, PROCESSOR.state_schema, {KEY: row})
    return series.bank(), int(series.of[fold.store.code(KEY.encode())])


def _change_points(case: Case, row: Fields, declared: bool) -> list[str]:
    """How near `cpd` is to a change."""
    if case.values["cpd"] == "off":
        return ["cpd is off."]
    if case.values["cpd"] == "bocpd":
        return _run_lengths(row, declared)
    numbers, seen = _numbers(row), row["seen"]
    if numbers["g_changed"] == seen:  # now: the segment has begun anew since
        return [] if declared else [_left_out("glr")]
    bank, r = bank_of(row)
    point, gain = glr.evidence(bank, r, work(), case.number("glr_floor"))
    if point < 0:
        why = "it never moved" if seen - numbers["g_start"] >= 2 * glr.SIDE else "it is too short"
        return [f"glr: there is no telling yet, for {why}."]
    _, bar = glr.bars(
        bank, r, case.number("glr_bar"), case.number("glr_habituation"),
        case.number("glr_half_life"),
    )  # fmt: skip
    shown = seen - numbers["g_since"] + 1 if numbers["g_since"] >= 0 else 0
    return [
        f"glr: the evidence for a change at frame {point + 1} is {num(gain)}, and more than "
        f"{num(bar)} is asked for (segment of {seen - int(numbers['g_start'])} frames; "
        f"{num(glr.faded(bank, r, case.number('glr_half_life')))} changes count yet) in "
        f"{num(case.number('glr_persistence'))} frames in a row: it is shown in {int(shown)}."
    ]


def _run_lengths(row: Fields, declared: bool) -> list[str]:
    """How sure bocpd is of a change."""
    if not row["runs"]:
        return [f"bocpd: there is no telling before frame {bocpd.FIRST}, or before it moves."]
    if declared:
        return []
    likely, mass = bocpd.likeliest(*bank_of(row))
    if mass > bocpd.SURE:
        return [_left_out("bocpd")]
    where = f", likeliest at frame {row['seen'] - likely + 1}" if likely >= 0 else ""
    return [
        f"bocpd: a change since the last one has the probability {num(mass)}{where}; more than "
        f"{num(bocpd.SURE)} is asked for."
    ]


def _states(case: Case, row: Fields, declared: bool) -> str:
    """What state hmm is in, and how surely."""
    numbers = _numbers(row)
    if row["seen"] <= hmm.FIRST or numbers["h_since"] < 0:
        return f"hmm: it learns what is usual until frame {hmm.FIRST}."
    on, p = bool(numbers["h_on"]), num(numbers["h_p"])
    name, turn = ("VOLATILE", "hmm_down") if on else ("STABLE", "hmm_up")
    side = "below" if on else "above"
    turned = " since this frame" if declared else ""
    return (
        f"hmm: it is {name}{turned}; the probability of VOLATILE is {p}, and it turns "
        f"{side} {num(case.number(turn))}."
    )


def _left_out(law: str) -> str:
    """Of a change that gives no boundary: see detect.close."""
    return f"{law}: a change, but too near to the boundary before for another (min_gap_ms)."


def _boundary(one: Fields) -> str:
    """A segment's end."""
    what = f"{one['evidence']}, {SCORES[one['evidence']]} {num(one['score'])}"
    return (
        f"Boundary of {one['domain']} at {_time(one['boundary_ts'])} ({what}): its segment had "
        f"{one['frames']} frames since {_time(one['start_ts'])}, with a mean error of "
        f"{num(one['mean_error'])}, {num(one['peak_error'])} at most."
    )


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat().replace("+00:00", "Z")


def _leader(case: Case, found: Mapping[str, Fields]) -> list[str]:
    """The tenant's time under its leader."""
    was, new = case.before.get("", {}), case.record["leader"]
    old = was.get("leader", "")
    if (one := found.get(EVIDENCE[LEADER_CHANGE])) is not None:
        return [f"{new or 'Nobody'} leads instead of {old}.", _boundary(one)]
    if not was.get("seen") or old == new:
        return []
    if not old or case.values["leader"] == "off":
        why = "`leader` is off" if old else "nobody led before"
    elif case.after[""]["leader"] == old:
        why = "the boundary before is nearer than min_gap_ms: the segment goes on"
    else:
        why = "the tenant has too few frames yet (warmup)"
    return [f"{new or 'Nobody'} leads instead of {old or 'nobody'}, without a boundary: {why}."]
