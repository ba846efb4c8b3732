"""What the integrator tells besides frames: drift and rollback events, and counts for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import Output, Tally
from agents.integrator import drift
from agents.integrator.rows import State
from agents.integrator.settings import DRIFT_ENTROPY, DRIFT_REGRET, ROLLBACK, SETTINGS, SHAPING
from agents.kit.packing import Ints

TALLIES = (
    Tally("soma_frames_total", "Global frames written."),
    Tally("soma_leader_changes_total", "Times that another domain came to lead."),
    Tally("soma_veto_total", "Decisions of the policy about leaders.", "decision"),
    Tally("soma_veto_ignored_total", "Answers to no open question: late, doubled or unknown."),
    Tally("soma_drift_events_total", "Drift events written.", "kind"),
    Tally("soma_rollbacks_total", "Drifts that took a tenant's settings back."),
    Tally("soma_leader_share", "The part of the last frames that a domain led, about 10,000 of "
             "this worker's.", "domain", recent=10_000),
)  # fmt: skip


FRAMES, CHANGES, VETOES, IGNORED, DRIFTS, ROLLBACKS, SHARE = (one.name for one in TALLIES)


def led(names: NDArray[np.uint8], pos: Ints, size: Ints) -> dict[str, int]:
    """Frames by their leaders, spans of `names` of one place each; empty: nobody."""
    place = np.where(size > 0, pos, -1)
    places, first, counts = np.unique(place, return_index=True, return_counts=True)
    return {
        f"{SHARE}:{names[at : at + size[k]].tobytes().decode()}": n
        for at, k, n in zip(places.tolist(), first.tolist(), counts.tolist(), strict=True)
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """The record that showed a drift."""

    ts: int  # event time, µs
    frame_id: str
    observation_id: str
    cause: int  # its row in the batch


def write(state: State, r: int, kind: int, seen: Seen, drifts: Output, rollbacks: Output) -> bool:
    """Write a drift event, and with auto_rollback take the settings back; True: some were."""
    tenants = state.table.rows
    tenant = tenants[r].copy()
    values = state.settings.table[tenant["settings"]].copy()
    name = state.text(int(tenant["code"]))
    if kind == drift.ENTROPY:
        what, least, margin = "entropy", values[DRIFT_ENTROPY], drift.ENTROPY_MARGIN
    else:
        what, least, margin = "regret", values[DRIFT_REGRET], drift.REGRET_MARGIN
    usual, spread = float(tenant[f"usual_{what}"]), float(tenant[f"spread_{what}"])
    value, level = float(tenant[f"mean_{what}"]), drift.level(float(least), usual, spread, margin)
    everyone = int(tenants["config_version"][0])
    before, after = roll_back(state, r, name) if values[ROLLBACK] != 0.0 else ({}, {})
    common = {"tenant": name, "ts": seen.ts, "frame_id": seen.frame_id}
    event = common | {
        "observation_id": seen.observation_id,
        "kind": what,
        "value": value,
        "threshold": float(level),
        "baseline_entropy": float(tenant["usual_entropy"]),
        "baseline_regret": float(tenant["usual_regret"]),
        "window": drift.WINDOW,
        "samples": int(tenant["samples"]),
        "leader": state.text(int(tenant["leader"])) if tenant["leader"] >= 0 else "",
        "rolled_back": bool(before),
        "config_version": max(int(tenant["config_version"]), everyone),
    }
    _append(drifts, event, seen.cause)
    if before:
        reason = f"drift of {what}: {value:.6g} is above {float(level):.6g}"
        version = int(tenants["config_version"][r])
        event = common | {"reason": reason, "from": before, "to": after, "config_version": version}
        _append(rollbacks, event, seen.cause)
    return bool(before)


def roll_back(state: State, r: int, tenant: str) -> tuple[dict[str, str], dict[str, str]]:
    """Take a tenant's own settings back to its baseline's; returns what was and what is, as text.

    Both are empty if none differs.
    """
    own, baseline = state.settings.own(tenant), state.table.baseline(r)
    changed = [name for name in list(SETTINGS)[:SHAPING] if own.get(name) != baseline.get(name)]
    if changed:
        kept = {name: value for name, value in own.items() if name not in changed}
        kept |= {name: baseline[name] for name in changed if name in baseline}
        state.settings.replace(tenant, kept)
        rows = state.table.rows
        rows["settings"][r] = state.settings.row(tenant)
        seen = rows["config_version"]
        seen[r] = max(seen[r], seen[0]) + len(changed)
        drift.start_anew(rows[r])
    before, after = ({name: _text(name, one.get(name)) for name in changed}
                     for one in (own, baseline))  # fmt: skip
    return before, after


def _text(name: str, number: float | None) -> str:
    """What a control record would say to set this; empty for None."""
    return "" if number is None else str(SETTINGS[name].of_number(number))


def _append(out: Output, record: Mapping[str, object], cause: int) -> None:
    out.reserve(1)
    out.columns.put(out.n, dict(record), out.scratch)
    out.cause[out.n] = cause
    out.n += 1
