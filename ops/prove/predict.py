"""The predictors' law (laws.md section 1), written again for the verifier.

Heat flows by the matrix exponential of SciPy here, so the workers' expansions have an oracle.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

from ops.prove.calibrate import LEVELS, Calibration
from ops.prove.compare import near
from ops.prove.law import Law, RefusedError, Row, Rows, Sink, Written
from ops.prove.overrides import Overrides, choice

Floats = NDArray[np.float64]

UPDATES = "cog.predictor.updates"
CALIBRATIONS = "cog.predictor.calibration"
NEXT_EVENTS = "cog.next.events"
EPSILON = 1e-12
NEUTRAL_ERROR = 1.0  # of an observation that nothing predicted
ERROR_MAX = 3e38
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
class Series:
    """State of one domain of one tenant: last vector, moments and their weight, calibration."""

    x: Floats
    mean: Floats
    m2: Floats
    weight: float = 1.0
    n: int = 1
    restarts: int = 0
    ts: int = 0
    calibration: Calibration = field(default_factory=Calibration)


def begin(vector: Floats, before: Series | None) -> Series:
    """The state after a first observation, or one of another dimension than `before`."""
    fresh = Series(vector, vector.copy(), np.zeros_like(vector))
    if before is not None:
        fresh.restarts, fresh.ts = before.restarts + 1, before.ts
    return fresh


def expected(series: Series, settings: Mapping[str, Any]) -> Floats:
    """The vector that the state predicts."""
    if settings["predictor"] == "heat":
        return heat(settings["graph"], len(series.x), settings["diffusion_time"]) @ series.x
    return series.x if settings["predictor"] == "persistence" else series.mean


def narrow(value: float) -> float:
    """As the wire's float32 holds it."""
    return float(np.float32(value))


def step(series: Series, vector: Floats, settings: Mapping[str, Any]) -> float:
    """Take in one observation; its error. The moments are updated before the error is measured."""
    guess = expected(series, settings)
    keep = 1.0 - settings["forgetting"]
    series.weight = keep * series.weight + 1.0
    delta = vector - series.mean
    miss = vector - guess
    series.mean = series.mean + delta / series.weight
    series.m2 = keep * series.m2 + delta**2 * (1.0 - 1.0 / series.weight)
    series.x = vector
    series.n += 1
    with np.errstate(over="ignore"):
        error = float(np.mean(miss**2 / (series.m2 / series.weight + EPSILON)))
    return min(error, ERROR_MAX)


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
    )
    state = "predictors_state"
    tolerance: ClassVar[Mapping[str, float]] = {"": 1e-6, "error_metric": 1e-5, "confidence": 1e-5}

    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    settings: Overrides = field(default_factory=lambda: Overrides(KINDS))

    def epoch(self, settings: Mapping[str, str]) -> None:
        """See law.Law."""
        self.settings.epoch(settings)

    def control(self, tenant: str, setting: str, value: str) -> None:
        """See law.Law."""
        self.settings.change(tenant, setting, value)

    def fold(self, record: Row, place: str, log_ms: int, written: Written) -> Rows:
        """See law.Law."""
        raw = record["vector"]
        if not raw or len(raw) % 4:
            raise RefusedError("vector")
        vector = np.frombuffer(raw, "<f4").astype(np.float64)
        if not np.isfinite(vector).all():
            raise RefusedError("not finite")
        settings = self.settings.of(record["tenant"])
        key = (record["tenant"], record["domain"])
        series = self.series.get(key)
        if series is None or len(series.x) != len(vector):
            self.series[key] = series = begin(vector, series)
            error = NEUTRAL_ERROR
        else:
            error = step(series, vector, settings)
        series.ts = max(series.ts, record["ts"])
        claimed = next((row["error_metric"] for row in written.get(UPDATES, ())), None)
        if claimed is not None and near(error, claimed, self.tolerance["error_metric"]):
            error = claimed  # what follows is a function of the error as the wire has it
        refit = self._calibrate(series, narrow(error), settings, written)
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
            CALIBRATIONS: [common | refit] if refit else [],
            NEXT_EVENTS: [next_event] if settings["next_events"] == "on" else [],
        }

    def _calibrate(
        self, series: Series, error: float, settings: Mapping[str, Any], written: Written
    ) -> Row | None:
        """Let the calibration hear of an error; the refit that this completed, if it did."""
        calibration = series.calibration
        if settings["calibrate"] == "off" or series.n == 1:
            calibration.waiting = 0
            return None
        before = calibration.ties
        claimed = next(iter(written.get(CALIBRATIONS, ())), None)
        refit = calibration.take(error, series.n, settings, claimed)
        self.near_ties += calibration.ties - before
        return refit

    def output(self, row: Row) -> Row:
        """See law.Law."""
        raw = row.get("predicted_state")
        return row if raw is None else row | {"predicted_state": _numbers("f", raw)}

    def rows(self) -> dict[bytes, Row]:
        """See law.Law."""
        settings = {
            tenant.encode(): {"dim": 0, "n": 0, "settings": self.settings.numbers(tenant)}
            for tenant, own in self.settings.own.items()
            if own
        }
        return settings | {
            f"{tenant}{SEPARATOR}{domain}".encode(): {
                "dim": len(series.x),
                "n": series.n,
                "weight": series.weight,
                "x": series.x.tolist(),
                "mean": series.mean.tolist(),
                "m2": series.m2.tolist(),
                "restarts": series.restarts,
                "ts": series.ts,
                "median": series.calibration.median,
                "temperature": series.calibration.temperature,
                "waiting": series.calibration.waiting,
                "samples": series.calibration.samples,
                "counts": series.calibration.counts.reshape(-1).tolist(),
            }
            for (tenant, domain), series in self.series.items()
        }

    def row(self, row: Row) -> Row:
        """See law.Law."""
        texts = {"x": "f", "mean": "d", "m2": "d"}
        before = 4 * row["lowest"]
        after = 4 * LEVELS - before - len(row["counts"])
        counts = [0] * before + list(row["counts"]) + [0] * after
        vectors = {name: _numbers(kind, row[name]) for name, kind in texts.items()}
        return row | {"counts": counts} | vectors


def _numbers(kind: str, raw: bytes) -> list[float]:
    """Little-endian numbers of one kind (f, d)."""
    return list(struct.unpack(f"<{len(raw) // struct.calcsize(kind)}{kind}", raw))
