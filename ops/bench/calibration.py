"""`soma bench calibration`: how true the predictors' confidences are, before and after.

Two kinds of input: samples of synthetic predictors that are too sure or too shy by a known
temperature, played through the law (agents.predictors.calibration); and the recorded machine
(agents.tools.recorded), folded by the predictors' own fold. No broker takes part.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import Batch, Context, Output, Place
from agents.predictors import calibration as cal
from agents.predictors.agent import CALIBRATIONS, PROCESSOR
from agents.tools import series
from ops.bench.report import Report
from topics.catalogue import CATALOGUE
from topics.columns import Buffer, Columns, Layout
from topics.schemas import schemas

Floats = NDArray[np.float64]
Record = dict[str, Any]

EVERY = 200  # samples between refits, as the setting's default
START_US = 1_700_000_000_000_000
METHOD = (
    "Synthetic: {samples:,} samples of a predictor whose logits are too large by the temperature "
    "it is named for; T is the law's after them, the figures are of 100,000 fresh samples. "
    "Recorded: the last refit of each domain of the recorded machine ({predictor}), on its held "
    "out samples; all: every domain's together. Before: temperature 1; after: the "
    "fitted one. ECE with {bins} bins; NLL in nats."
)


@dataclass(frozen=True)
class Judged:
    """One predictor's confidences: figures and reliability, before and after."""

    name: str
    samples: int
    temperature: float  # in force at the end
    ece: tuple[float, float]
    brier: tuple[float, float]
    nll: tuple[float, float]
    bins: tuple[list[list[float]], list[list[float]]]  # count, mean confidence, share that's true


def synthetic(temperature: float, samples: int, seed: int) -> Judged:
    """A predictor that is `temperature` times too sure, calibrated by the law."""
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[Floats, NDArray[np.bool_]]:
        logits = np.clip(rng.normal(0.0, 2.0 * max(temperature, 1.0), n), -cal.LIMIT, cal.LIMIT)
        return logits, rng.random(n) < 1.0 / (1.0 + np.exp(-logits / temperature))

    counts, fits, now = np.zeros(cal.COUNTS, np.uint16), cal.fits(samples // EVERY + 1), 1.0
    for k, (z, right) in enumerate(zip(*draw(samples), strict=True)):
        now = cal.learn(counts, cal.level_of(float(z)), bool(right), k, EVERY, now, k, fits)
    logits, truths = draw(100_000)
    figures, bins = zip(*(_judge(logits / t, truths) for t in (1.0, now)), strict=True)
    ece, brier, nll = zip(*figures, strict=True)
    return Judged(f"synthetic, {temperature:g}", samples, now, ece, brier, nll, bins)


def _judge(logits: Floats, truths: NDArray[np.bool_]) -> tuple[list[float], list[list[float]]]:
    """([ECE, Brier, NLL], bins) of raw samples."""
    p = 1.0 / (1.0 + np.exp(-logits))
    which = np.minimum((cal.BINS * p).astype(int), cal.BINS - 1)
    count, sure, true = (
        np.bincount(which, weights, cal.BINS) for weights in (None, p, truths.astype(float))
    )
    nll = np.logaddexp(0.0, np.where(truths, -logits, logits)).mean()
    some = np.maximum(count, 1)
    figures = [float(np.abs(sure - true).sum() / len(p)), float(((p - truths) ** 2).mean())]
    return [*figures, float(nll)], [count.tolist(), (sure / some).tolist(), (true / some).tolist()]


def refits(rows: Iterable[series.Row], settings: dict[str, str]) -> list[Record]:
    """The calibration records of a partition that gets these rows; settings as at deployment."""
    source = Layout(schemas().newest("observation"))
    columns, scratch, count = Columns(source), Buffer(), 0
    for count, row in enumerate(rows, start=1):
        vector = np.asarray(row.vector, "<f4").tobytes()
        ts = START_US + int(row.second * 1e6)
        record = {"tenant": row.tenant, "domain": row.domain, "ts": ts, "vector": vector}
        columns.put(count - 1, record | {"sequence": None}, scratch)
    outputs = tuple(
        Output(Columns(_layout(sink)), Buffer(), np.empty(0, np.int64)) for sink in PROCESSOR.sinks
    )
    buf = scratch.data[: scratch.used]
    log_ms = columns.cols.i[source.slots["ts"], :count] // 1000
    batch = Batch(buf, columns, np.arange(count), log_ms, np.zeros(count, np.uint8))
    fold = PROCESSOR.make(Context(Place("00000000", 0), settings))
    fold.fold(batch, 0, count, outputs)
    found = outputs[PROCESSOR.sinks.index(CALIBRATIONS)]
    bufs = (buf, fold.names, found.scratch.data)
    return [found.columns.get(k, bufs) for k in range(found.n)]


def _layout(sink: str) -> Layout:
    schema = CATALOGUE[sink].schema
    assert schema is not None
    return Layout(schemas().newest(schema), PROCESSOR.sink_src[sink])


def judged(record: Record) -> Judged:
    """What a calibration record says."""
    ece, brier, nll = (
        (record[f"{name}_pre"], record[f"{name}_post"]) for name in ("ece", "brier", "nll")
    )
    before, after = (
        [record[f"bin_{part}{suffix}"] for part in ("count", "confidence", "accuracy")]
        for suffix in ("", "_post")
    )
    name = f"{record['tenant']} {record['domain']}"
    return Judged(
        name, record["samples"], record["temperature"], ece, brier, nll, (before, after)
    )  # fmt: skip


def together(parts: list[Judged]) -> Judged:
    """All held-out samples as one; there is no one temperature."""
    counts = [np.array([part.bins[when][0] for part in parts], float) for when in (0, 1)]
    held = counts[0].sum(axis=1)

    def mean(pairs: list[tuple[float, float]]) -> tuple[float, float]:
        before, after = np.average(np.array(pairs), axis=0, weights=held)
        return float(before), float(after)

    bins, ece = [], []
    for when in (0, 1):
        total = counts[when].sum(axis=0)
        sure, true = (
            (counts[when] * np.array([part.bins[when][row] for part in parts])).sum(axis=0)
            for row in (1, 2)
        )
        ece.append(float(np.abs(sure - true).sum() / total.sum()))
        some = np.maximum(total, 1.0)
        bins.append([total.tolist(), (sure / some).tolist(), (true / some).tolist()])
    return Judged(
        "recorded, all", sum(part.samples for part in parts), float("nan"), (ece[0], ece[1]),
        mean([part.brier for part in parts]), mean([part.nll for part in parts]),
        (bins[0], bins[1]),
    )  # fmt: skip


def run(samples: int = 5000, seed: int = 1, predictor: str = "heat") -> list[Judged]:
    """The synthetic predictors, then the recorded machine."""
    found = [synthetic(temperature, samples, seed) for temperature in (0.5, 2.0, 3.0)]
    last: dict[tuple[str, str], Record] = {}
    for record in refits(series.recorded(), {"predictor": predictor}):
        last[record["tenant"], record["domain"]] = record
    recorded = [judged(last[key]) for key in sorted(last)]
    return [*found, together(recorded), *recorded]


def report(found: list[Judged], samples: int, predictor: str, plot: Path | None) -> Report:
    """The table."""
    rows = []
    for one in found:
        pairs = [f"{before:.3f} → {after:.3f}" for before, after in (one.ece, one.brier, one.nll)]
        t = "-" if np.isnan(one.temperature) else f"{one.temperature:.2f}"
        rows.append([one.name, f"{one.samples:,}", t, *pairs])
    method = METHOD.format(samples=samples, predictor=predictor, bins=cal.BINS)
    notes = [f"Plot: {plot.name}"] if plot else []
    return Report(
        "calibration", ("predictor", "samples", "T", "ECE", "Brier", "NLL"), rows, method, notes
    )


def as_json(found: list[Judged]) -> list[dict[str, Any]]:
    """The figures; a temperature that there isn't is null."""
    return [
        asdict(one) | {"temperature": None if np.isnan(one.temperature) else one.temperature}
        for one in found
    ]
