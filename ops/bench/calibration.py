"""`soma bench calibration`: how true the predictors' confidences are, before and after.

Each confidence is judged as it was published: by what had been learned before its truth was known.
Two kinds of input: samples of synthetic predictors that are too sure or too shy by a known
temperature, played through the law (agents.predictors.calibration); and the recorded machine
(agents.tools.recorded), folded by the predictors' own fold. No broker takes part.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import Batch, Context, Output, Place
from agents.predictors import calibration as cal
from agents.predictors.agent import PROCESSOR, UPDATES
from agents.tools import series
from ops.bench.report import Report
from topics.catalogue import CATALOGUE
from topics.columns import Buffer, Columns, Layout
from topics.schemas import schemas

Floats = NDArray[np.float64]
Record = dict[str, Any]

FIRST = 50  # samples of each that don't count: nothing has been learned
RECENT = 200  # truths that the base rate is of
CLIP = 1e-4  # likelihoods are of confidences between this and 1 - this
START_US = 1_700_000_000_000_000
METHOD = (
    "Each confidence as it was published, judged by the next error; the first {first} of each "
    "don't count. Synthetic: {samples:,} samples of a predictor whose logits are too large by the "
    "temperature it is named for. Recorded: each domain of the recorded machine ({predictor}); "
    "all: every domain's together. Before: the raw confidence; after: the published one; base: "
    "Brier of the share of the last {recent} that came true. Slope and bias are those at the end. "
    "ECE with {bins} bins; NLL in nats. Wanted of the recorded: ECE ≤ .03 in all and ≤ .08 in "
    "each, Brier ≤ the base rate's + .005."
)


@dataclass(frozen=True)
class Samples:
    """Confidences in their order, and whether they came true."""

    before: Floats
    after: Floats
    truths: Floats  # 0 or 1

    def base(self) -> Floats:
        """The share that came true of those just before each; ½ for the first."""
        known = np.concatenate(([0.0], np.cumsum(self.truths)))
        at = np.arange(len(self.truths))
        since = np.maximum(at - RECENT, 0)
        share = (known[at] - known[since]) / np.maximum(at - since, 1)
        return np.where(at == 0, 0.5, share)


@dataclass(frozen=True)
class Judged:
    """One predictor's confidences: figures and reliability, before and after."""

    name: str
    samples: int
    slope: float | None  # in force at the end
    bias: float | None
    ece: tuple[float, float]
    brier: tuple[float, float]
    nll: tuple[float, float]
    base: float  # Brier of the base rate
    bins: tuple[list[list[float]], list[list[float]]]  # count, mean confidence, share that's true


def synthetic(temperature: float, samples: int, seed: int) -> Judged:
    """A predictor that is `temperature` times too sure, calibrated by the law."""
    rng = np.random.default_rng(seed)
    logits = np.clip(
        rng.normal(0.0, 2.0 * max(temperature, 1.0), samples), -cal.LIMIT, cal.LIMIT
    )  # fmt: skip
    truths = rng.random(samples) < _sure(logits / temperature)
    learned, after = np.empty(5), np.empty(samples)
    cal.unlearn(learned)
    for k, (z, right) in enumerate(zip(logits.tolist(), truths.tolist(), strict=True)):
        after[k] = cal.sure(learned[0] * z + learned[1])
        cal.learn(learned, z, right)
    found = Samples(_sure(logits), after, truths.astype(float))
    return judged(f"synthetic, {temperature:g}", [found], learned[0], learned[1])


def _sure(logits: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-logits)))


def judged(
    name: str, parts: list[Samples], slope: float | None = None, bias: float | None = None
) -> Judged:
    """Samples of one predictor, or of several as one."""
    truths = np.concatenate([part.truths[FIRST:] for part in parts])
    before, after, base = (
        np.concatenate(each)
        for each in zip(
            *((p.before[FIRST:], p.after[FIRST:], p.base()[FIRST:]) for p in parts), strict=True
        )
    )
    figures, bins = zip(*(_judge(p, truths) for p in (before, after)), strict=True)
    ece, brier, nll = zip(*figures, strict=True)
    return Judged(
        name, sum(len(part.truths) for part in parts), slope, bias, ece, brier, nll,
        float(((base - truths) ** 2).mean()), bins,
    )  # fmt: skip


def _judge(p: Floats, truths: Floats) -> tuple[list[float], list[list[float]]]:
    """([ECE, Brier, NLL], bins)."""
    which = np.minimum((cal.BINS * p).astype(int), cal.BINS - 1)
    count, sure, true = (np.bincount(which, weights, cal.BINS) for weights in (None, p, truths))
    clipped = np.clip(p, CLIP, 1.0 - CLIP)
    nll = -np.log(np.where(truths > 0.0, clipped, 1.0 - clipped)).mean()
    some = np.maximum(count, 1)
    figures = [float(np.abs(sure - true).sum() / len(p)), float(((p - truths) ** 2).mean())]
    return [*figures, float(nll)], [count.tolist(), (sure / some).tolist(), (true / some).tolist()]


def folded(
    rows: Iterable[series.Row], settings: dict[str, str], sink: str = UPDATES
) -> list[Record]:
    """What a partition that gets these rows publishes to a topic; settings as at deployment."""
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
    found = outputs[PROCESSOR.sinks.index(sink)]
    bufs = (buf, fold.names, found.scratch.data)
    return [found.columns.get(k, bufs) for k in range(found.n)]


def _layout(sink: str) -> Layout:
    schema = CATALOGUE[sink].schema
    assert schema is not None
    return Layout(schemas().newest(schema), PROCESSOR.sink_src[sink])


def samples_of(updates: list[Record], alpha: float) -> Samples:
    """The confidences of one domain's updates whose truth is known; all of one dimension."""
    before, after, truths = [], [], []
    median, run = 0.0, 0
    for n, (update, following) in enumerate(pairwise(updates[1:]), start=2):
        median, run = cal.median_after(median, run, update["error_metric"], n)
        before.append(cal.sure(cal.logit_of(update["error_metric"], alpha)))
        after.append(update["confidence"])
        truths.append(float(following["error_metric"] <= median))
    return Samples(*(np.array(each) for each in (before, after, truths)))


def recorded(predictor: str) -> list[Judged]:
    """The recorded machine: all, then each domain."""
    settings = {"predictor": predictor}
    updates: dict[tuple[str, str], list[Record]] = {}
    for update in folded(series.recorded(), settings):
        updates.setdefault((update["tenant"], update["domain"]), []).append(update)
    alpha = float(PROCESSOR.settings["alpha"].default)
    parts = {key: samples_of(updates[key], alpha) for key in sorted(updates)}
    each = [judged(" ".join(key), [found], *_learned(found)) for key, found in parts.items()]
    return [judged("recorded, all", list(parts.values())), *each]


def _learned(found: Samples) -> tuple[float, float]:
    """Slope and bias after the last of these."""
    learned = np.empty(5)
    cal.unlearn(learned)
    logits = np.log(found.before) - np.log1p(-found.before)
    for z, truth in zip(logits.tolist(), found.truths.tolist(), strict=True):
        cal.learn(learned, z, truth > 0.0)
    return float(learned[0]), float(learned[1])


def run(samples: int = 5000, seed: int = 1, predictor: str = "heat") -> list[Judged]:
    """The synthetic predictors, then the recorded machine."""
    found = [synthetic(temperature, samples, seed) for temperature in (0.5, 2.0, 3.0)]
    return [*found, *recorded(predictor)]


def report(found: list[Judged], samples: int, predictor: str, plot: Path | None) -> Report:
    """The table."""
    rows = []
    for one in found:
        pairs = [f"{before:.3f} → {after:.3f}" for before, after in (one.ece, one.brier, one.nll)]
        learned = ["-" if each is None else f"{each:.2f}" for each in (one.slope, one.bias)]
        rows.append([one.name, f"{one.samples:,}", *learned, *pairs, f"{one.base:.3f}"])
    method = METHOD.format(
        samples=samples, predictor=predictor, bins=cal.BINS, first=FIRST, recent=RECENT
    )
    notes = [f"Plot: {plot.name}"] if plot else []
    heads = ("predictor", "samples", "slope", "bias", "ECE", "Brier", "NLL", "base")
    return Report("calibration", heads, rows, method, notes)


def as_json(found: list[Judged]) -> list[dict[str, Any]]:
    """The figures."""
    return [asdict(one) for one in found]
