"""How well found change points agree with labels: covering, F1, false boundaries, delays.

Covering and F1 as in G. J. J. van den Burg and C. K. I. Williams, "An Evaluation of Change Point
Detection Algorithms", arXiv:2003.06222 (2020), section 4: several annotators, and the series'
begin counts as a trivial change point of everybody. Locations are 0-based: the first point after a
change.
"""

import itertools
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

MARGIN = 5
Labels = Mapping[str, Collection[int]]  # annotator -> locations


@dataclass(frozen=True, slots=True)
class Score:
    """One series' agreement with its labels; delays in points, None where nothing was found."""

    points: int
    f1: float
    precision: float
    recall: float
    covering: float
    found: int
    false_boundaries: int  # not within the margin of any annotator's location
    false_per_1000: float
    delay_median: float | None  # from a label to the declaration of the boundary matched with it
    delay_mean: float | None

    def record(self) -> dict[str, float | int | None]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


def segments(cuts: Iterable[int], n: int) -> list[tuple[int, int]]:
    """The parts [begin, end) of n points cut at the locations; those outside 1..n-1 cut nothing."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < n}), n]
    return list(itertools.pairwise(edges))


def covering(labels: Labels, found: Collection[int], n: int) -> float:
    """Mean over annotators of the share of n points covered: each of the annotator's segments A
    weighs |A| and counts with its best Jaccard index |A ∩ B| / |A ∪ B| over the found segments B.
    """
    _check(labels, n)
    parts = segments(found, n)
    total = 0.0
    for locations in labels.values():
        first = 0
        for begin, end in segments(locations, n):
            while parts[first][1] <= begin:
                first += 1
            best, k = 0.0, first
            while k < len(parts) and parts[k][0] < end:
                both = min(end, parts[k][1]) - max(begin, parts[k][0])
                best = max(best, both / (max(end, parts[k][1]) - min(begin, parts[k][0])))
                k += 1
            total += (end - begin) * best
    return total / (n * len(labels))


def matches(truth: Collection[int], found: Collection[int], margin: int = MARGIN) -> dict[int, int]:
    """true location -> the found one that it takes: the nearest free within the margin.

    The lower one on a tie. The true ones choose in the order of a Python set, as the benchmark's
    own code has it: where they are closer than two margins the order can matter.
    """
    free = sorted(set(found))
    taken: dict[int, int] = {}
    for location in set(truth):
        near = [one for one in free if abs(one - location) <= margin]
        if near:
            taken[location] = min(near, key=lambda one: (abs(one - location), one))
            free.remove(taken[location])
    return taken


def f1(labels: Labels, found: Collection[int], margin: int = MARGIN) -> tuple[float, float, float]:
    """(F1, precision, recall): precision against all annotators' locations together, recall as the
    mean over annotators; location 0 is everybody's.
    """
    _check(labels, 1)
    predicted = {0, *found}
    union = {0}.union(*labels.values())
    precision = len(matches(union, predicted, margin)) / len(predicted)
    recall = statistics.fmean(
        len(matches({0, *locations}, predicted, margin)) / len({0, *locations})
        for locations in labels.values()
    )
    return 2 * precision * recall / (precision + recall), precision, recall


def score(
    labels: Labels, changes: Sequence[tuple[int, int]], n: int, margin: int = MARGIN
) -> Score:
    """Score changes (index, at) of a series of n points."""
    found = {index for index, _ in changes if 0 < index < n}
    declared = dict(reversed(changes))  # the earliest declaration
    union = {0}.union(*labels.values())
    taken = matches(union, {0, *found}, margin)
    false = len(found - set(taken.values()))
    delays = [declared[one] - label for label, one in taken.items() if one in declared and one]
    f, precision, recall = f1(labels, found, margin)
    return Score(
        points=n,
        f1=f,
        precision=precision,
        recall=recall,
        covering=covering(labels, found, n),
        found=len(found),
        false_boundaries=false,
        false_per_1000=1000 * false / n,
        delay_median=statistics.median(delays) if delays else None,
        delay_mean=statistics.fmean(delays) if delays else None,
    )


def _check(labels: Labels, n: int) -> None:
    if not labels or n < 1:
        raise ValueError("labels of at least one annotator, and at least one point, are needed")
