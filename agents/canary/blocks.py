"""What happens to two groups of tenants, second by second of the log's time; pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.canary.law import METRICS

LOSS_ALPHA = 2.0  # as the integrator's default: losses of different tenants are to be comparable
ALONE = 2  # so many times more tenants in the control group tell alone how far tenants move
Values = list[float]  # one for each of METRICS


@dataclass(slots=True)
class Seen:
    """What was seen of one tenant in a block."""

    frames: int = 0
    error: float = 0.0  # sums over its frames
    regret: float = 0.0
    changes: int = 0
    boundaries: int = 0

    @property
    def values(self) -> Values:
        """Means of a frame, counts of a block."""
        n = self.frames
        return [self.error / n, self.regret / n, float(self.changes), float(self.boundaries)]


@dataclass(frozen=True, slots=True)
class Block:
    """The groups' means in a second in which both were seen."""

    second: int
    differences: Values
    canary: Values
    control: Values


@dataclass(slots=True)
class Groups:
    """Counts what is seen of the tenants of two groups."""

    canary: frozenset[str]
    control: frozenset[str]
    _blocks: dict[int, dict[str, Seen]] = field(default_factory=dict)
    _leaders: dict[str, str] = field(default_factory=dict)
    _base: dict[str, Values] = field(default_factory=dict)  # tenant -> its means before
    _since: dict[str, Values] = field(default_factory=dict)  # how it moved from these: sums
    _seconds: dict[str, int] = field(default_factory=dict)  # and of how many seconds

    def __contains__(self, tenant: str) -> bool:
        return tenant in self.canary or tenant in self.control

    def _of(self, second: int, tenant: str) -> Seen:
        return self._blocks.setdefault(second, {}).setdefault(tenant, Seen())

    def frame(self, second: int, frame: Mapping[str, Any]) -> None:
        """Count a frame of a tenant of theirs."""
        tenant, leader = frame["tenant"], frame["leader"]
        one = self._of(second, tenant)
        losses = {name: _loss(error) for name, error in frame["errors"].items()}
        one.frames += 1
        one.error += losses.get(frame["domain"], 0.0)
        if losses:
            one.regret += losses.get(leader, max(losses.values())) - min(losses.values())
        one.changes += self._leaders.get(tenant, leader) != leader
        self._leaders[tenant] = leader

    def boundary(self, second: int, tenant: str) -> None:
        """Count a boundary of a tenant of theirs."""
        self._of(second, tenant).boundaries += 1

    def take(self, until: int) -> dict[int, dict[str, Values]]:
        """Blocks before this one, each with the tenants seen in it; only where both groups were."""
        done = sorted(second for second in self._blocks if second < until)
        found = {}
        for second in done:
            values = {
                one: seen.values for one, seen in self._blocks.pop(second).items() if seen.frames
            }
            if values.keys() & self.canary and values.keys() & self.control:
                found[second] = values
        return found

    def level(self, blocks: Iterable[Mapping[str, Values]]) -> None:
        """Take the tenants' means of these blocks for what is usual."""
        every: dict[str, list[Values]] = {}
        for block in blocks:
            for tenant, values in block.items():
                every.setdefault(tenant, []).append(values)
        self._base = {one: mean(values) for one, values in every.items()}

    def block(self, second: int, values: Mapping[str, Values], since: bool) -> Block | None:
        """What a second was like, for the tenants whose usual is known; None: not for both.

        `since`: it is one after the start, and counts for `apart`.
        """
        means, moved = [], []
        for group in (self.canary, self.control):
            known = [one for one in sorted(values.keys() & group) if one in self._base]
            if not known:
                return None
            means.append(mean([values[one] for one in known]))
            each = {one: _less(values[one], self._base[one]) for one in known}
            moved.append(mean(list(each.values())))
            for one, way in each.items() if since else ():
                before = self._since.get(one, [0.0] * len(METRICS))
                self._since[one] = [a + b for a, b in zip(before, way, strict=True)]
                self._seconds[one] = self._seconds.get(one, 0) + 1
        return Block(second, _less(*moved), *means)

    def apart(self) -> tuple[Values, int]:
        """The variance of the difference of the groups' means since the start, by how far their
        tenants have moved apart; and its degrees of freedom.
        """
        within, parts, count, groups = [0.0] * len(METRICS), 0.0, 0, 0
        alone = len(self.control) >= ALONE * len(self.canary)
        for group in (self.canary, self.control):
            moved = [
                [total / self._seconds[one] for total in self._since[one]]
                for one in sorted(group & self._since.keys())
            ]
            if not moved:
                return within, 0
            middle = mean(moved)
            parts += 1 / len(moved)
            if alone and group is self.canary:
                continue  # it may act on one more than on another
            count, groups = count + len(moved), groups + 1
            for row in moved:
                within = [w + d * d for w, d in zip(within, _less(row, middle), strict=True)]
        freedom = count - groups
        return [w / max(1, freedom) * parts for w in within], freedom


def _loss(error: float) -> float:
    """From 0 to 1, of an error of any size."""
    return 1.0 - math.exp(-LOSS_ALPHA * max(0.0, error)) if error == error else 1.0


def mean(rows: Sequence[Values]) -> Values:
    """Of each metric, over rows."""
    return [math.fsum(row[k] for row in rows) / len(rows) for k in range(len(METRICS))]


def _less(a: Values, b: Values) -> Values:
    return [x - y for x, y in zip(a, b, strict=True)]
