"""The predictors' law, written again for the verifier.

Heat flows by the matrix exponential of SciPy here, so the workers' expansions have an oracle.
"""

import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from ops.prove.calibrate import Calibration
from ops.prove.compare import near
from ops.prove.dozing import ACTIVE, FREEZE, Sleep, learning_left, time_left
from ops.prove.law import Law, RefusedError, Row, Rows, Sink, Written
from ops.prove.overrides import Overrides, choice

Floats = NDArray[np.float64]

UPDATES = "cog.predictor.updates"
CALIBRATIONS = "cog.predictor.calibration"
NEXT_EVENTS = "cog.next.events"
REQUESTS = "brain.sleep.requests"
NEUTRAL_ERROR = 1.0  # of an observation that nothing predicted
ERROR_MAX = 100.0
SIGMA = 1.4826  # a normal's standard deviation, in median deviations
ROUNDING = 1e-9  # of heat, beside the largest component
CONFIDENCE_MIN = 2.0**-126
SEPARATOR = "\x1f"


KINDS: dict[str, Callable[[str], Any]] = {
    "predictor": choice("heat", "persistence", "mahal"),
    "alpha": float,
    "diffusion_time": float,
    "graph": choice("none", "path", "ring", "star"),
    "heat_method": choice("chebyshev", "lanczos"),
    "forgetting": float,
    "calibrate": choice("off", "on"),
    "calibrate_every": float,
    "next_events": choice("off", "on"),
}


@lru_cache(maxsize=256)
def heat(graph: str, size: int, time: float) -> Floats:
    """exp(-t·L) for the graph's Laplacian over `size` components, as a matrix."""
    edges: set[tuple[int, int]] = set()
    if graph == "star":
        edges = {(0, other) for other in range(1, size)}
    elif graph in ("path", "ring"):
        edges = {(one, one + 1) for one in range(size - 1)}
        if graph == "ring" and size > 2:
            edges.add((0, size - 1))
    laplacian = np.zeros((size, size))
    for one, other in edges:
        laplacian[[one, other], [one, other]] += 1.0
        laplacian[[one, other], [other, one]] -= 1.0
    return np.asarray(expm(-time * laplacian))


@dataclass
class Scale:
    """One component: its level, how far it moves, and how far from the level it is, in moves."""

    level: float
    move: float = 0.0
    ratio: float = 0.5**0.5
    run: int = 0  # moves in a row above the usual one; below: negative
    shift: int = 0  # observations in a row far above the level; below: negative

    def take(self, x: float, last: float, n: int, forgetting: float, part: float) -> None:
        """The n-th observation, behind `last`; `part` of both rates is left."""
        slow, quick = part * max(forgetting, 1.0 / n), part * max(3.0 * forgetting, 1.0 / n)
        usual, moved = self.move, abs(x - last)
        if usual == 0.0:
            self.move = moved / math.sqrt(min(n - 1, 100))
        elif moved > 0.0:
            side = 1 if moved > usual else -1
            self.run = _on(self.run, side, 15)
            factor = min(1.0 + quick * 2.0 ** max(0, abs(self.run) - 7), 8.0)
            self.move = self.move * factor if side > 0 else self.move / factor
        if self.move == 0.0:
            return
        off, side = abs(x - self.level), 1 if x > self.level else -1
        if off > 3.0 * SIGMA * self.ratio * self.move:
            self.shift = _on(self.shift, side, 48)
            if moved > 6.0 * usual or abs(self.run) > 7:
                self.shift = side * max(24, abs(self.shift))
        else:
            self.shift = 0
        if abs(self.shift) <= 32:
            up = off > self.ratio * self.move
            ratio = self.ratio * (1.0 + slow) if up else self.ratio / (1.0 + slow)
            self.ratio = min(max(ratio, 0.5), 2.0**24)
        reach = slow * 4.0 ** max(0, abs(self.shift) - 32) * self.ratio * self.move
        self.level = x if reach >= off else self.level + side * reach

    def error(self, miss: float, least: float) -> float:
        """Of a component that was predicted with such a miss."""
        if miss == 0.0:
            return 0.0
        unit = max(SIGMA * self.ratio * self.move, least)
        return 1.0 / ((unit / miss) ** 2 + 1.0 / ERROR_MAX)


def _on(run: int, side: int, most: int) -> int:
    """A run, one longer on this side, or begun there."""
    return max(-most, min(most, run + side)) if run * side > 0 else side


@dataclass
class Series:
    """State of one domain of one tenant: last vector, each component's scale, calibration."""

    x: Floats
    scales: list[Scale]
    n: int = 1
    restarts: int = 0
    ts: int = 0
    calibration: Calibration = field(default_factory=Calibration)


def begin(vector: Floats, before: Series | None) -> Series:
    """The state after a first observation, or one of another dimension than `before`."""
    fresh = Series(vector, [Scale(value) for value in vector.tolist()])
    if before is not None:
        fresh.restarts, fresh.ts = before.restarts + 1, before.ts
    return fresh


def expected(series: Series, settings: Mapping[str, Any]) -> Floats:
    """The vector that the state predicts."""
    if settings["predictor"] == "heat":
        time = settings["diffusion_time"] * time_left(settings["state"])
        return heat(settings["graph"], len(series.x), time) @ series.x
    if settings["predictor"] == "persistence":
        return series.x
    return np.array([scale.level for scale in series.scales])


def narrow(value: float) -> float:
    """As the wire's float32 holds it."""
    return float(np.float32(value))


def step(series: Series, vector: Floats, settings: Mapping[str, Any]) -> float:
    """Take in one observation; its error. Scales are updated before the error is measured."""
    missed = (vector - expected(series, settings)).tolist()
    heated = settings["predictor"] == "heat"
    least = ROUNDING * float(np.abs(series.x).max()) if heated else 0.0
    series.n += 1
    last, total, part = series.x.tolist(), 0.0, learning_left(settings["state"])
    for scale, x, before, miss in zip(series.scales, vector.tolist(), last, missed, strict=True):
        if part:
            scale.take(x, before, series.n, settings["forgetting"], part)
        total += scale.error(miss, least)
    series.x = vector
    return total / len(vector)


def _passed(series: Series | None, vector: Floats, ts: int) -> Series:
    """The state after an observation of a frozen tenant: nobody predicts, or learns."""
    if series is None or len(series.x) != len(vector):
        series = begin(vector, series)
    else:
        series.x, series.n = vector, series.n + 1
    series.calibration.waiting = None
    series.ts = max(series.ts, ts)
    return series


@dataclass
class Prediction(Law):
    """Folds observations; see check.Law."""

    processor = "predictors"
    topic = "cog.observations"
    source = "observation"
    sinks = (
        Sink(UPDATES, "predictor_update", "observation_id"),
        Sink(CALIBRATIONS, "predictor_calibration", "observation_id"),
        Sink(NEXT_EVENTS, "next_event", "observation_id"),
        Sink(REQUESTS, "sleep_request", "request_id"),
    )
    state = "predictors_state"
    tolerance: ClassVar[Mapping[str, float]] = {"": 1e-6, "error_metric": 1e-5, "confidence": 1e-5}

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    settings: Overrides = field(default_factory=lambda: Overrides(KINDS))

    def epoch(self, settings: Mapping[str, str]) -> None:
        """See law.Law."""
        self.settings.epoch(settings)

    def control(self, tenant: str, setting: str, value: str, version: int = 0) -> None:
        """See law.Law."""
        self.settings.change(tenant, setting, value, version)

    def sleep(self, tenant: str, sleep: Sleep) -> None:
        """See law.Law."""
        self.settings.let_sleep(tenant, sleep)

    def _wake(self, tenant: str, place: str, log_ms: int) -> list[Row]:
        """End a sleep that traffic may end; what asks for that."""
        sleep = self.settings.asleep.get(tenant)
        if sleep is None or not sleep.wakes:
            return []
        del self.settings.asleep[tenant]
        return [
            {"request_id": place, "tenant": tenant, "target": ACTIVE, "kind": "traffic",
             "ttl_seconds": None, "wake_on_traffic": False, "version": sleep.version,
             "actor": self.processor, "ts": log_ms * 1000}
        ]  # fmt: skip

    def fold(self, record: Row, place: str, log_ms: int, written: Written) -> Rows:
        """See law.Law."""
        raw = record["vector"]
        if not raw or len(raw) % 4:
            raise RefusedError("vector")
        vector = np.frombuffer(raw, "<f4").astype(np.float64)
        if not np.isfinite(vector).all():
            raise RefusedError("not finite")
        woken = self._wake(record["tenant"], place, log_ms)
        state = self.settings.state(record["tenant"])
        settings = self.settings.of(record["tenant"]) | {"state": state}
        key = (record["tenant"], record["domain"])
        series = self.series.get(key)
        if state == FREEZE:
            self.series[key] = _passed(series, vector, record["ts"])
            return {}
        if series is None or len(series.x) != len(vector):
            self.series[key] = series = begin(vector, series)
            error = NEUTRAL_ERROR
        else:
            error = step(series, vector, settings)
        series.ts = max(series.ts, record["ts"])
        claimed = next((row["error_metric"] for row in written.get(UPDATES, ())), None)
        if claimed is not None and near(error, claimed, self.tolerance["error_metric"]):
            error = claimed  # what follows is a function of the error as the wire has it
        told = self._calibrate(series, narrow(error), settings)
        on = settings["calibrate"] == "on"
        confidence = series.calibration.confidence(narrow(error), settings["alpha"], on=on)
        common = {"tenant": record["tenant"], "domain": record["domain"], "ts": record["ts"],
                  "observation_id": place}  # fmt: skip
        update = common | {
            "predictor_type": settings["predictor"],
            "error_metric": error,
            "prediction_latency_ms": log_ms - record["ts"] / 1000.0,
            "model_version": "1.0",
            "vector_dim": len(vector),
            "confidence": max(confidence, CONFIDENCE_MIN),
        }
        next_event = common | {
            "predicted_state": expected(series, settings).tolist(),
            "confidence": max(confidence, CONFIDENCE_MIN), "regret": None, "metadata": {},
        }  # fmt: skip
        return {
            UPDATES: [update],
            CALIBRATIONS: [common | told] if told else [],
            NEXT_EVENTS: [next_event] if settings["next_events"] == "on" else [],
            REQUESTS: woken,
        }

    def _calibrate(self, series: Series, error: float, settings: Mapping[str, Any]) -> Row | None:
        """Let the calibration hear of an error; the record that this completed, if it did."""
        learns = learning_left(settings["state"]) > 0.0
        if settings["calibrate"] == "off" or series.n == 1 or not learns:
            series.calibration.waiting = None
            return None
        return series.calibration.take(error, series.n, settings)

    def output(self, row: Row) -> Row:
        """See law.Law."""
        raw = row.get("predicted_state")
        return row if raw is None else row | {"predicted_state": _numbers("f", raw)}

    def rows(self) -> dict[bytes, Row]:
        """See law.Law."""
        settings = {
            tenant.encode(): {"dim": 0, "n": 0, "settings": kept}
            for tenant in {*self.settings.own, *self.settings.asleep}
            if (kept := self.settings.numbers(tenant))
        }
        return settings | {
            f"{tenant}{SEPARATOR}{domain}".encode(): {
                "dim": len(series.x),
                "n": series.n,
                "weight": 0.0,
                "x": series.x.tolist(),
                "level": [scale.level for scale in series.scales],
                "step": [scale.move for scale in series.scales],
                "ratio": [scale.ratio for scale in series.scales],
                "runs": [run for scale in series.scales for run in (scale.run, scale.shift)],
                "m2": [],
                "restarts": series.restarts,
                "ts": series.ts,
                **series.calibration.row(),
            }
            for (tenant, domain), series in self.series.items()
        }

    def row(self, row: Row) -> Row:
        """See law.Law."""
        texts = {"x": "f", "level": "d", "step": "d", "ratio": "d", "runs": "b", "m2": "d"}
        return row | {name: _numbers(kind, row[name]) for name, kind in texts.items()}


def _numbers(kind: str, raw: bytes) -> list[float]:
    """Little-endian numbers of one kind (f, d, b)."""
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw))
