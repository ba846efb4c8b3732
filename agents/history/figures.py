"""What outputs come to, in numbers: one class for each schema that says something of how good a
setting is. Each sees the records of one side, a tenant's in their order, and where in the stretch
they lie (0 to 1), and gives JSON data.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

BINS = 60  # of a plot
LISTED = 16  # leaders, domains: those with most; the integrator has no more at a time
NEAR = 10  # frames of its domain that a boundary may lie off another, and be the same
SHOWN = 50  # boundaries of one side only
SAID_MAX = 10_000  # boundaries of a side that are kept to be shown
DOMAINS_MAX = 1_000  # of many tenants; what comes later is summed up under OTHERS
OTHERS = "(others)"
LEADER_CHANGE = "leader_change"

Record = Mapping[str, Any]


class Figures(Protocol):
    """Of one side."""

    def add(self, record: Record, place: float) -> None:
        """Take in the next record."""

    def data(self) -> dict[str, Any]:
        """The numbers so far."""

    def of(self, tenant: str) -> dict[str, int | float]:
        """A few numbers of one tenant, if it was met since `forget`."""

    def forget(self) -> None:
        """Tenants met so far come no more: keep what they come to, and nothing of each."""


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


@dataclass(slots=True)
class Course:
    """How one tenant's frames have gone on."""

    frames: int = 0
    changes: int = 0
    loss: float = 0.0
    weights: Mapping[str, float] = field(default_factory=dict)  # of the last frame
    # Of each domain of the last round: its loss so far.
    total: dict[str, float] = field(default_factory=dict)
    leader: str | None = None
    ts: int = 0

    def mixed(self, losses: Mapping[str, float]) -> float:
        """What following the last frame costs now: over those that had weight, else the mean."""
        known = {d: w for d in losses if (w := self.weights.get(d, 0.0)) > 0.0}
        if not known:
            return sum(losses.values()) / len(losses) if losses else 0.0
        return sum(w * losses[d] for d, w in known.items()) / sum(known.values())

    def enter(self, losses: Mapping[str, float]) -> None:
        """Add a round's losses to those of the domains that take part."""
        least = min((self.total[d] for d in losses if d in self.total), default=None)
        if least is None:  # nobody is left: all begin as the best of those before
            least = min(self.total.values(), default=0.0)
        self.total = {d: self.total.get(d, least) + loss for d, loss in losses.items()}

    @property
    def best(self) -> str:
        """The domain that would have cost least."""
        return min(self.total, key=lambda d: self.total[d], default="")

    @property
    def regret(self) -> float:
        """What following the weights cost above that."""
        return self.loss - self.total.get(self.best, 0.0)


class Frames:
    """Frames: who leads, and what following the weights costs.

    Loss is 1 - exp(-alpha * error), by one alpha on both sides, or they couldn't be compared. A
    round's loss is that of the weights of the frame before it; regret is the sum of these above the
    loss of the best domain in hindsight, one that is followed throughout (domains enter with the
    least loss of those that took part, as in the integrator's law). Of several tenants: the sum of
    their regrets, each above its own best domain; the one that is best for most is named.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._n = self._changes = 0
        self._entropy = self._loss = 0.0
        self._of: dict[str, Course] = {}
        self._regret, self._best = 0.0, Counter[str]()  # of those that are forgotten
        self._frames, self._led_us = Counter[str](), Counter[str]()
        self._losses = Series()
        self._leaders: list[Counter[str]] = [Counter() for _ in range(BINS)]

    def add(self, record: Record, place: float) -> None:
        losses = {d: -math.expm1(-self._alpha * e) for d, e in record["errors"].items()}
        course = self._of.setdefault(record["tenant"], Course())
        loss = course.mixed(losses)
        course.enter(losses)
        self._n += 1
        self._loss += loss
        self._entropy += record["entropy"]
        leader, ts = record["leader"], record["ts"]
        if course.leader is not None:
            changed = leader != course.leader
            self._changes += changed
            course.changes += changed
            self._led_us[course.leader] += max(0, ts - course.ts)
        course.frames += 1
        course.loss += loss
        course.weights, course.leader, course.ts = record["weights"], leader, ts
        self._frames[leader] += 1
        self._losses.add(place, loss)
        self._leaders[bin_of(place)][leader] += 1

    def of(self, tenant: str) -> dict[str, int | float]:
        if (one := self._of.get(tenant)) is None:
            return {}
        return {
            "frames": one.frames, "leader_changes": one.changes,
            "mean_loss": one.loss / one.frames, "regret": one.regret,
        }  # fmt: skip

    def forget(self) -> None:
        self._regret += sum(one.regret for one in self._of.values())
        self._best.update(one.best for one in self._of.values())
        self._of = {}

    def data(self) -> dict[str, Any]:
        n = max(1, self._n)
        regret = self._regret + sum(one.regret for one in self._of.values())
        best = self._best + Counter(one.best for one in self._of.values())
        return {
            "frames": self._n, "alpha": self._alpha, "leader_changes": self._changes,
            "led": {
                name: {"frames": count, "ms": self._led_us[name] // 1000}
                for name, count in self._frames.most_common(LISTED)
            },
            "mean_loss": self._loss / n, "best_domain": _first(best), "regret": regret,
            "mean_regret": regret / n, "mean_entropy": self._entropy / n,
            "losses": self._losses.data(),
            "leaders": [_first(one) for one in self._leaders],
        }  # fmt: skip


def _first(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0] if counts else ""


Chain = tuple[str, str, bool]  # tenant, domain, whether it is of its leaders
Said = dict[str, Any]


class Boundaries:
    """Boundaries, each by its place: how many frames of its domain lie before it."""

    def __init__(self) -> None:
        self._frames = Counter[Chain]()
        self.places: dict[Chain, list[int]] = defaultdict(list)
        self.said: dict[Chain, list[Said | None]] = defaultdict(list)  # None: too many
        self._kept = 0
        self._of = Counter[str]()  # by tenant
        self._evidence, self._bins = Counter[str](), Counter[int]()

    def add(self, record: Record, place: float) -> None:
        tenant, domain, evidence = record["tenant"], record["domain"], record["evidence"]
        # Leaders take turns: what counts is the tenant's chain of segments, not the domain's.
        leads = evidence == LEADER_CHANGE
        chain = (tenant, "" if leads else domain, leads)
        self._frames[chain] += record["frames"]
        self.places[chain].append(self._frames[chain])
        said: Said | None = None
        if self._kept < SAID_MAX:
            self._kept += 1
            times = {name: _time(record[name]) for name in ("boundary_ts", "detected_ts")}
            said = {"tenant": tenant, "domain": domain, "evidence": evidence, **times}
        self.said[chain].append(said)
        self._of[tenant] += 1
        self._evidence[evidence] += 1
        self._bins[bin_of(place)] += 1

    def of(self, tenant: str) -> dict[str, int | float]:
        return {"boundaries": self._of[tenant]} if tenant in self._of else {}

    def forget(self) -> None:
        self._kept = 0
        for one in (self._frames, self.places, self.said, self._of):
            one.clear()

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
    only: tuple[list[Said | None], list[Said | None]] = [], []
    for chain in sorted(here.places.keys() | there.places.keys()):
        sides = here.places.get(chain, []), there.places.get(chain, [])
        paired = pairs(*sides, NEAR)
        both += len(paired)
        for side, one in enumerate((here, there)):
            taken = {pair[side] for pair in paired}
            only[side].extend(b for k, b in enumerate(one.said.get(chain, [])) if k not in taken)
    listed = [[one for one in some if one is not None][:SHOWN] for some in only]
    return {
        "both": both, "near": NEAR, "only_was": len(only[0]), "only_would": len(only[1]),
        "listed_was": listed[0], "listed_would": listed[1],
    }  # fmt: skip


def of_all(before: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Boundaries in both, as `in_both` gives them, of some tenants and of others."""
    found = {name: before[name] + more[name] for name in more}
    listed = {name: found[name][:SHOWN] for name in ("listed_was", "listed_would")}
    return found | listed | {"near": NEAR}


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
        self._domains: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._of: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # by tenant
        self._errors = Series()

    def add(self, record: Record, place: float) -> None:
        domain, error = record["domain"], record["error_metric"]
        if domain not in self._domains and len(self._domains) >= DOMAINS_MAX:
            domain = OTHERS
        one = self._domains[domain]
        one[0] += 1
        one[1] += error
        one[2] += record["confidence"]
        mine = self._of[record["tenant"]]
        mine[0] += 1
        mine[1] += error
        self._errors.add(place, error)

    def of(self, tenant: str) -> dict[str, int | float]:
        if (one := self._of.get(tenant)) is None:
            return {}
        return {"updates": int(one[0]), "mean_error": one[1] / one[0]}

    def forget(self) -> None:
        self._of.clear()

    def data(self) -> dict[str, Any]:
        most = sorted(self._domains.items(), key=lambda item: (-item[1][0], item[0]))
        total = [sum(one[k] for one in self._domains.values()) for k in range(3)]
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

    def of(self, tenant: str) -> dict[str, int | float]:
        return {}

    def forget(self) -> None:
        """Nothing is kept of a tenant."""

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
