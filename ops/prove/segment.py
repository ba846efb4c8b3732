"""Segmentation's law, written again for the verifier.

A frame feeds the series of the domain that moved, and the tenant's time under its leader.
"""

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ops.prove.changes import SIDE, Change, Glr, Points
from ops.prove.dozing import FREEZE, Sleep
from ops.prove.law import Law, Row, Rows, Sink, Written
from ops.prove.overrides import EVERYBODY, Overrides, choice
from ops.prove.regimes import Bocpd, Hmm

SEGMENTS = "cog.segments"
SEPARATOR = "\x1f"
RING = 104  # points that a state row holds
LIMIT = 1e300  # larger errors count as this
# Of a series' state row, the laws' whole numbers and numbers in their order; the sums of
# glr (centre, s_…) aren't checked: they follow from the points, and what they lead to is checked.
COUNTS = ("unit", "g_start", "g_since", "g_changed", "h_on", "h_since", "b_start", "b_used")
NUMBERS = (
    "mean", "spread", "g_count", "centre", "s_w", "s_f", "s_y", "s_ff", "s_fy", "s_yy", "h_p",
    "h_level", "h_variance", "h_high", "h_wide", "h_sum", "b_mean", "b_scale",
)  # fmt: skip
IN_UNITS = {"h_level": 1, "h_high": 1, "b_mean": 1, "b_scale": 1, "h_variance": 2, "h_wide": 2}

KINDS: dict[str, Callable[[str], Any]] = {
    "leader": choice("off", "on"),
    "threshold": choice("off", "on"),
    "gradient": float,
    "cpd": choice("off", "glr", "bocpd"),
    "hmm": choice("off", "on"),
    "min_gap_ms": float,
    "max_dwell_ms": float,
    "warmup": float,
    "glr_bar": float,
    "glr_floor": float,
    "glr_habituation": float,
    "glr_half_life": float,
    "glr_persistence": float,
    "bocpd_hazard": float,
    "hmm_stay": float,
    "hmm_up": float,
    "hmm_down": float,
    "domains_max": float,
    "forget_after_s": float,
}
DEFAULTS = {  # of what the epochs log doesn't say
    "leader": "on", "threshold": "off", "gradient": "0.2", "cpd": "glr", "hmm": "off",
    "min_gap_ms": "0", "max_dwell_ms": "0", "warmup": "0", "glr_bar": "2.3", "glr_floor": "1.4",
    "glr_habituation": "0.2", "glr_half_life": "1000", "glr_persistence": "4",
    "bocpd_hazard": "250", "hmm_stay": "0.99999", "hmm_up": "0.6", "hmm_down": "0.4",
    "domains_max": "256",
}  # fmt: skip
OF_TENANT = ("leader", "domains_max")  # can't be set for a domain
Settings = Mapping[str, Any]


@dataclass
class Reign:
    """A tenant's time under one leader, and how many frames and boundaries it had before."""

    leader: str | None = None
    seen: int = 0
    start: int = 0
    start_ts: int = 0
    boundaries: int = 0
    measured: int = 0
    error_sum: float = 0.0
    confidence_sum: float = 0.0
    peak: float = 0.0

    def begin(self, leader: str, ts: int) -> None:
        """Another leader."""
        self.leader, self.start, self.start_ts = leader, self.seen, ts
        self.measured, self.error_sum, self.confidence_sum, self.peak = 0, 0.0, 0.0, 0.0

    def frame(self, frame: Row, settings: Settings) -> Row | None:
        """Take a frame in; the boundary that it is."""
        leader, ts, boundary = frame["leader"], frame["ts"], None
        if self.leader is None:
            self.begin(leader, ts)
        elif leader != self.leader:
            reported = settings["leader"] == "on" and self.leader != ""
            near = abs(ts - self.start_ts) < settings["min_gap_ms"] * 1000.0
            if reported and self.boundaries and near:
                leader = self.leader  # as if nothing had happened, until the gap is over
            else:
                if reported and self.seen >= settings["warmup"]:
                    boundary = self._boundary(frame)
                    self.boundaries += 1
                self.begin(leader, ts)
        error = frame["errors"].get(leader, math.nan)
        if math.isfinite(error):
            self.measured += 1
            self.error_sum += error
            self.peak = max(self.peak, error)
        self.confidence_sum += frame["confidence"]
        self.seen += 1
        return boundary

    def _boundary(self, frame: Row) -> Row:
        assert self.leader is not None
        weight = frame["weights"].get(self.leader, math.nan)
        count = self.seen - self.start
        return _boundary(
            frame, self.leader, "leader_change", frame["ts"], self.start_ts,
            score=frame["confidence"] - (weight if math.isfinite(weight) else 0.0),
            frames=count, leader=self.leader, mean_error=self.error_sum / max(1, self.measured),
            mean_confidence=self.confidence_sum / count, peak_error=self.peak,
        )  # fmt: skip


def _boundary(
    frame: Row, domain: str, evidence: str, ts: int, start_ts: int, **summary: Any
) -> Row:
    return {
        "segment_id": f"{frame['frame_id']}:{domain}:{evidence}",
        "tenant": frame["tenant"],
        "domain": domain,
        "boundary_ts": ts,
        "detected_ts": frame["ts"],
        "dwell_ms": max(0, ts - start_ts) // 1000,
        "evidence": evidence,
        "frame_id": frame["frame_id"],
        "start_ts": start_ts,
        **summary,
    }


@dataclass
class Series:
    """One domain of one tenant: every point, and the open segment."""

    points: Points = field(default_factory=Points)
    ts: list[int] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    leader: list[str] = field(default_factory=list)
    start: int = 0
    start_ts: int = 0
    boundaries: int = 0
    glr: Glr = field(default_factory=Glr)
    bocpd: Bocpd = field(default_factory=Bocpd)
    hmm: Hmm = field(default_factory=Hmm)

    def frame(self, frame: Row, settings: Settings, claims: Mapping[str, Row]) -> list[Row]:
        """Take a frame in; the boundaries that it shows. `claims`: those in the log."""
        error, ts = frame["errors"][frame["domain"]], frame["ts"]
        if not self.ts:
            self.start_ts = ts
        self.glr.leave(self.points)
        self.points.push(min(LIMIT, max(-LIMIT, error)))
        self.ts.append(ts)
        self.confidence.append(_narrow(frame["confidence"]))
        self.leader.append(frame["leader"])
        last = len(self.ts) - 1
        self.glr.add(self.points, last)
        if last < settings["warmup"]:
            return []
        found: list[Row] = []
        for evidence, change in self._changes(settings, claims):
            if self._may_close(change.point, evidence, settings):
                found.append(self._close(frame, evidence, change))
        limit = settings["max_dwell_ms"] * 1000.0
        if limit > 0.0 and ts - self.start_ts >= limit:
            change = Change(last, (ts - self.start_ts) / 1000.0)
            if self._may_close(last, "max_dwell", settings):
                found.append(self._close(frame, "max_dwell", change))
        return found

    def _changes(self, settings: Settings, claims: Mapping[str, Row]) -> list[tuple[str, Change]]:
        """What the laws find, in their order."""
        found: list[tuple[str, Change | None]] = []
        if settings["cpd"] == "glr":
            found.append(("cpd", self._glr(settings, claims.get("cpd"))))
        else:
            self.glr.since = -1
        if settings["cpd"] == "bocpd":
            where = self._point(claims.get("cpd"))
            found.append(("cpd", self.bocpd.step(self.points, settings["bocpd_hazard"], where)))
        if settings["hmm"] == "on":
            stay, up, down = (settings[f"hmm_{name}"] for name in ("stay", "up", "down"))
            where = self._point(claims.get("hmm"))
            found.append(("hmm", self.hmm.step(self.points, stay, up, down, where)))
        else:
            self.hmm.rest()
        last = len(self.ts) - 1
        if settings["threshold"] == "on" and last > 0:
            moved = abs(self.points.values[last] - self.points.values[last - 1])
            if moved >= settings["gradient"]:
                found.append(("threshold", Change(last, moved)))
        return [(evidence, change) for evidence, change in found if change is not None]

    def _glr(self, settings: Settings, claim: Row | None) -> Change | None:
        return self.glr.step(
            self.points, settings["glr_bar"], settings["glr_floor"], settings["glr_habituation"],
            settings["glr_half_life"], int(settings["glr_persistence"]), self._point(claim),
        )  # fmt: skip

    def _point(self, claim: Row | None) -> int | None:
        """The point that a boundary in the log stands for: its segment ends before it."""
        return None if claim is None else self.start + int(claim["frames"])

    def _may_close(self, point: int, evidence: str, settings: Settings) -> bool:
        after = SIDE if evidence in ("cpd", "hmm") and self.boundaries else 1
        if point < self.start + after:
            return False
        near = abs(self.ts[point] - self.start_ts) < settings["min_gap_ms"] * 1000.0
        return not (self.boundaries and near)

    def _close(self, frame: Row, evidence: str, change: Change) -> Row:
        """End the segment before a point."""
        point, score = change
        errors = self.points.values[self.start : point]
        count = len(errors)
        found = _boundary(
            frame, frame["domain"], evidence, self.ts[point], self.start_ts, score=score,
            frames=count, leader=self.leader[point - 1], mean_error=sum(errors) / count,
            mean_confidence=sum(self.confidence[self.start : point]) / count,
            peak_error=max(errors),
        )  # fmt: skip
        self.start, self.start_ts = point, self.ts[point]
        self.boundaries += 1
        return found

    @property
    def ties(self) -> int:
        """Decisions that the log has settled."""
        return self.glr.ties + self.bocpd.ties + self.hmm.ties


@dataclass
class Segmentation(Law):
    """Folds global_frames; see law.Law."""

    processor = "segmentation"
    topic = "cog.global.frame"
    source = "global_frame"
    sinks = (Sink(SEGMENTS, "segment_boundary", "frame_id", shared=False),)
    state = "segmentation_state"
    tolerance: ClassVar[Mapping[str, float]] = {"": 1e-6}

    reigns: dict[str, Reign] = field(default_factory=dict)
    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    settings: Overrides = field(
        default_factory=lambda: Overrides(KINDS, [n for n in KINDS if n not in OF_TENANT])
    )

    def epoch(self, settings: Mapping[str, str]) -> None:
        """See law.Law."""
        self.settings.epoch(DEFAULTS | dict(settings))

    def control(self, tenant: str, setting: str, value: str, version: int = 0) -> None:
        """See law.Law."""
        self.settings.change(tenant, setting, value, version)
        if tenant != EVERYBODY:
            self.reigns.setdefault(tenant, Reign())
        for (owner, domain), series in self.series.items():
            if tenant in (owner, EVERYBODY) and self.settings.of(owner, domain)["cpd"] != "bocpd":
                series.bocpd.stop()

    def sleep(self, tenant: str, sleep: Sleep) -> None:
        """See law.Law."""
        if self.settings.let_sleep(tenant, sleep):
            self.reigns.setdefault(tenant, Reign())

    def cause(self, record: Row, place: str) -> str:
        """Boundaries name the frame by its own id."""
        return str(record["frame_id"])

    def fold(self, record: Row, place: str, log_ms: int, written: Written) -> Rows:
        """See law.Law."""
        tenant, domain = record["tenant"], record["domain"]
        reign = self.reigns.setdefault(tenant, Reign())
        if self.settings.state(tenant) == FREEZE:
            if math.isfinite(record["errors"].get(domain, math.nan)):
                self.series.setdefault((tenant, domain), Series())
            return {}
        change = reign.frame(record, self.settings.of(tenant))
        found = [change] if change else []
        if math.isfinite(record["errors"].get(domain, math.nan)):
            series = self.series.setdefault((tenant, domain), Series())
            claims = {row["evidence"]: row for row in written.get(SEGMENTS, ())}
            before = series.ties
            found += series.frame(record, self.settings.of(tenant, domain), claims)
            self.near_ties += series.ties - before
        return {SEGMENTS: found}

    def rows(self) -> dict[bytes, Row]:
        """See law.Law."""
        rows = {
            tenant.encode(): {
                "seen": reign.seen, "leader": reign.leader or "", "start": reign.start,
                "start_ts": reign.start_ts, "boundaries": reign.boundaries,
                "measured": reign.measured, "error_sum": reign.error_sum,
                "confidence_sum": reign.confidence_sum, "peak": reign.peak,
                "settings": self.settings.numbers(tenant),
            }
            for tenant, reign in self.reigns.items()
        }  # fmt: skip
        if everybody := self.settings.numbers(EVERYBODY):
            rows[EVERYBODY.encode()] = {"settings": everybody}
        for (tenant, domain), series in self.series.items():
            rows[f"{tenant}{SEPARATOR}{domain}".encode()] = _row(series)
        return rows

    def row(self, row: Row) -> Row:
        """See law.Law."""
        count = len(row["confidences"]) // 4
        width = "d" if count and len(row["values"]) == 8 * count else "f"
        times, at = [], 0
        for step in row["times"]:
            at += step
            times.append(at)
        leaders = [n for n, m in zip(row["leaders"], row["lasted"], strict=True) for _ in range(m)]
        return row | {
            "values": list(struct.unpack(f"<{count}{width}", row["values"])),
            "confidences": list(struct.unpack(f"<{count}f", row["confidences"])),
            "times": times, "leaders": leaders,
            **_laws(row["counts"], row["numbers"]),
        }  # fmt: skip


def _laws(counts: Sequence[int], numbers: Sequence[float]) -> Row:
    """The laws' columns of a series' row by name, in plain units; nothing of a tenant's row."""
    if not counts:
        return {}
    found = dict(zip(COUNTS, counts, strict=True))
    return found | {
        name: math.ldexp(value, found["unit"] * IN_UNITS.get(name, 0))
        for name, value in zip(NUMBERS, numbers, strict=True)
    }


def _row(series: Series) -> Row:
    gone = max(series.start, len(series.ts) - RING)
    left = series.points.values[series.start : gone]
    return {
        "seen": len(series.ts), "start": series.start, "start_ts": series.start_ts,
        "boundaries": series.boundaries, "values": series.points.values[-RING:],
        "confidences": series.confidence[-RING:], "times": series.ts[-RING:],
        "leaders": series.leader[-RING:], "g_start": series.glr.start,
        "g_since": series.glr.since, "g_changed": series.glr.changed, "g_count": series.glr.count,
        "error_sum": sum(left), "confidence_sum": sum(series.confidence[series.start : gone]),
        "peak": max(left, default=-math.inf),
        "mean": series.points.mean, "spread": series.points.spread, "wild": series.points.wild,
        "h_on": int(series.hmm.on), "h_since": series.hmm.since, "h_p": series.hmm.p,
        "h_sum": series.hmm.gained,
        "h_level": series.hmm.level, "h_variance": series.hmm.variance,
        "h_high": series.hmm.high, "h_wide": series.hmm.wide, "b_used": len(series.bocpd.p),
        "b_start": series.bocpd.start, "b_mean": series.bocpd.mean,
        "b_scale": series.bocpd.scale,
    }  # fmt: skip


def _narrow(value: float) -> float:
    """As float32 holds it."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])
