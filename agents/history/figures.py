"""What outputs come to, in numbers: one class for each schema that says something of how good a
setting is. Each sees a tenant's records of one side, in their order, and where in the stretch they
lie (0 to 1), and gives JSON data.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

BINS = 60  # of a plot
LISTED = 16  # leaders, domains: those with most; the integrator has no more at a time
NEAR = 10  # frames of its domain that a boundary may lie off another, and be the same
SHOWN = 50  # boundaries of one side only
LEADER_CHANGE = "leader_change"

Record = Mapping[str, Any]


class Figures(Protocol):
    """Of one side."""

    def add(self, record: Record, place: float) -> None:
        """Take in the next record."""

    def data(self) -> dict[str, Any]:
        """The numbers so far."""


class Series:
    """Means of a number along the stretch, for a plot."""

    def __init__(self) -> None:
        self._sums, self._counts = [0.0] * BINS, [0] * BINS

    def add(self, place: float, value: float) -> None:
        """One more."""
        self._sums[bin_of(place)] += value
        self._counts[bin_of(place)] += 1

    def data(self) -> list[float | None]:
        """BINS means; None where nothing was."""
        pairs = zip(self._sums, self._counts, strict=True)
        return [round(total / n, 4) if n else None for total, n in pairs]


def bin_of(place: float) -> int:
    """Where in a plot a place of the stretch is shown."""
    return max(0, min(int(place * BINS), BINS - 1))


class Frames:
    """Frames: who leads, and what following the weights costs.

    Loss is 1 - exp(-alpha * error), by one alpha on both sides, or they couldn't be compared. A
    round's loss is that of the weights of the frame before it; regret is the sum of these above the
    loss of the best domain in hindsight, one that is followed throughout (domains enter with the
    least loss of those that took part, as in the integrator's law).
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._n = self._changes = 0
        self._entropy = self._loss = 0.0
        self._weights: Mapping[str, float] = {}  # of the last frame
        self._total: dict[str, float] = {}  # of each domain of the last round: its loss so far
        self._leader: str | None = None
        self._ts = 0
        self._frames, self._led_us = Counter[str](), Counter[str]()
        self._losses = Series()
        self._leaders: list[Counter[str]] = [Counter() for _ in range(BINS)]

    def add(self, record: Record, place: float) -> None:
        losses = {d: -math.expm1(-self._alpha * e) for d, e in record["errors"].items()}
        loss = self._mixed(losses)
        self._enter(losses)
        self._n += 1
        self._loss += loss
        self._entropy += record["entropy"]
        self._weights = record["weights"]
        leader, ts = record["leader"], record["ts"]
        if self._leader is not None:
            self._changes += leader != self._leader
            self._led_us[self._leader] += max(0, ts - self._ts)
        self._leader, self._ts = leader, ts
        self._frames[leader] += 1
        self._losses.add(place, loss)
        self._leaders[bin_of(place)][leader] += 1

    def _mixed(self, losses: Mapping[str, float]) -> float:
        """What following the last frame costs now: over those that had weight, else the mean."""
        known = {d: w for d in losses if (w := self._weights.get(d, 0.0)) > 0.0}
        if not known:
            return sum(losses.values()) / len(losses) if losses else 0.0
        return sum(w * losses[d] for d, w in known.items()) / sum(known.values())

    def _enter(self, losses: Mapping[str, float]) -> None:
        least = min((self._total[d] for d in losses if d in self._total), default=None)
        if least is None:  # nobody is left: all begin as the best of those before
            least = min(self._total.values(), default=0.0)
        self._total = {d: self._total.get(d, least) + loss for d, loss in losses.items()}

    def data(self) -> dict[str, Any]:
        n = max(1, self._n)
        best = min(self._total, key=lambda d: self._total[d], default="")
        regret = self._loss - self._total.get(best, 0.0)
        return {
            "frames": self._n, "alpha": self._alpha, "leader_changes": self._changes,
            "led": {
                name: {"frames": count, "ms": self._led_us[name] // 1000}
                for name, count in self._frames.most_common(LISTED)
            },
            "mean_loss": self._loss / n, "best_domain": best, "regret": regret,
            "mean_regret": regret / n, "mean_entropy": self._entropy / n,
            "losses": self._losses.data(),
            "leaders": [one.most_common(1)[0][0] if one else "" for one in self._leaders],
        }  # fmt: skip


class Boundaries:
    """Boundaries, each by its place: how many frames of its domain lie before it."""

    def __init__(self) -> None:
        self._frames = Counter[tuple[str, bool]]()
        self.places: dict[tuple[str, bool], list[int]] = defaultdict(list)
        self.said: dict[tuple[str, bool], list[dict[str, Any]]] = defaultdict(list)
        self._evidence, self._bins = Counter[str](), Counter[int]()

    def add(self, record: Record, place: float) -> None:
        whose = record["domain"], record["evidence"] == LEADER_CHANGE
        # Leaders take turns: what counts is the tenant's chain of segments, not the domain's.
        chain = ("", True) if whose[1] else whose
        self._frames[chain] += record["frames"]
        self.places[chain].append(self._frames[chain])
        times = {name: _time(record[name]) for name in ("boundary_ts", "detected_ts")}
        self.said[chain].append(
            {"domain": record["domain"], "evidence": record["evidence"], **times}
        )
        self._evidence[record["evidence"]] += 1
        self._bins[bin_of(place)] += 1

    def data(self) -> dict[str, Any]:
        return {
            "boundaries": self._evidence.total(), "by_evidence": dict(self._evidence),
            "counts": [self._bins[k] for k in range(BINS)],
        }  # fmt: skip


def _time(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).isoformat()


def in_both(here: Boundaries, there: Boundaries) -> dict[str, Any]:
    """How many boundaries are the same, within NEAR frames of their domain; and the others."""
    both = 0
    only: tuple[list[dict[str, Any]], list[dict[str, Any]]] = [], []
    for chain in sorted(here.places.keys() | there.places.keys()):
        sides = here.places.get(chain, []), there.places.get(chain, [])
        paired = pairs(*sides, NEAR)
        both += len(paired)
        for side, one in enumerate((here, there)):
            taken = {pair[side] for pair in paired}
            only[side].extend(b for k, b in enumerate(one.said.get(chain, [])) if k not in taken)
    return {
        "both": both, "near": NEAR, "only_was": len(only[0]), "only_would": len(only[1]),
        "listed_was": only[0][:SHOWN], "listed_would": only[1][:SHOWN],
    }  # fmt: skip


def pairs(a: list[int], b: list[int], near: int) -> list[tuple[int, int]]:
    """As many pairs of places in two ascending lists as there can be, each within `near`."""
    found: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        if abs(a[i] - b[j]) <= near:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif a[i] < b[j]:
            i += 1
        else:
            j += 1
    return found


class Predictions:
    """Predictor updates: how wrong they were, and how sure, by domain."""

    def __init__(self) -> None:
        self._of: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._errors = Series()

    def add(self, record: Record, place: float) -> None:
        one = self._of[record["domain"]]
        one[0] += 1
        one[1] += record["error_metric"]
        one[2] += record["confidence"]
        self._errors.add(place, record["error_metric"])

    def data(self) -> dict[str, Any]:
        most = sorted(self._of.items(), key=lambda item: (-item[1][0], item[0]))
        total = [sum(one[k] for one in self._of.values()) for k in range(3)]
        return {
            "updates": int(total[0]), "mean_error": total[1] / max(1.0, total[0]),
            "mean_confidence": total[2] / max(1.0, total[0]),
            "domains": {
                name: {"updates": int(n), "mean_error": e / n, "mean_confidence": c / n}
                for name, (n, e, c) in most[:LISTED]
            },
            "errors": self._errors.data(),
        }  # fmt: skip


class Calibrations:
    """How true confidences were as published: means over the samples that records speak of."""

    def __init__(self) -> None:
        self._samples = 0
        self._sums = dict.fromkeys(("ece_post", "brier_post", "nll_post"), 0.0)

    def add(self, record: Record, place: float) -> None:
        n = sum(record["bin_count_post"])
        self._samples += n
        for name in self._sums:
            self._sums[name] += n * record[name]

    def data(self) -> dict[str, Any]:
        n = max(1, self._samples)
        means = {name.removesuffix("_post"): one / n for name, one in self._sums.items()}
        return {"samples": self._samples, **means}


def figures_of(schema: str | None, alpha: float) -> Figures | None:
    """Those of a schema; None: such outputs say nothing that we know how to sum up."""
    if schema == "global_frame":
        return Frames(alpha)
    made: Mapping[str | None, Callable[[], Figures]] = {
        "segment_boundary": Boundaries, "predictor_update": Predictions,
        "predictor_calibration": Calibrations,
    }  # fmt: skip
    return made[schema]() if schema in made else None
