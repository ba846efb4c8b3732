"""Expansions of heat that are in use, kept for the kernels; made anew when lacking."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.predictors.diffusion import coefficients_of, largest_of
from topics.compiled import kernel

_PLANS = 1024  # a power of two
_COEFFICIENTS_MAX = 1 << 20
_TIMES = 65536.0  # steps of a time that are told apart
_PRIME = 7919

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Plans(NamedTuple):
    """A direct-mapped cache: (graph, time, dim) -> coefficients[at : at + size] and scale."""

    graph: Ints  # -1: an empty place
    time: Floats
    dim: Ints
    at: Ints
    size: Ints
    scale: Floats
    coefficients: Floats


@kernel
def where(graph: int, time: float, dim: int) -> int:
    """The one place where such a plan may stand. 0 <= time <= 10."""
    return int((dim * 5 + graph + np.int64(time * _TIMES) * _PRIME) & (_PLANS - 1))


@kernel
def find(plans: Plans, graph: int, time: float, dim: int) -> int:
    """The plan's place; -1 when it has to be made."""
    p = where(graph, time, dim)
    if plans.graph[p] == graph and plans.time[p] == time and plans.dim[p] == dim:
        return p
    return -1


class PlanBook:
    """Makes the plans; holds at most so many, in bounded room."""

    def __init__(self) -> None:
        self._used = 0
        self.plans = self._empty(np.empty(1024))

    def make(self, graph: int, time: float, dim: int) -> None:
        """Put this plan in its place, whatever stood there."""
        largest = largest_of(graph, dim)
        coefficients = coefficients_of(time, largest)
        size = coefficients.shape[0]
        self._reserve(size)
        plans, p = self.plans, where(graph, time, dim)
        plans.graph[p], plans.time[p], plans.dim[p] = graph, time, dim
        plans.at[p], plans.size[p] = self._used, size
        plans.scale[p] = 2.0 / largest if largest > 0.0 else 0.0
        plans.coefficients[self._used : self._used + size] = coefficients
        self._used += size

    def _reserve(self, more: int) -> None:
        """Coefficients are only ever added; when there are too many, all plans begin anew."""
        held = self.plans.coefficients
        if self._used + more <= held.shape[0]:
            return
        if self._used + more > _COEFFICIENTS_MAX:
            self.plans, self._used = self._empty(held), 0
            return
        grown = np.empty(min(max(2 * held.shape[0], self._used + more), _COEFFICIENTS_MAX))
        grown[: self._used] = held[: self._used]
        self.plans = self.plans._replace(coefficients=grown)

    @staticmethod
    def _empty(coefficients: Floats) -> Plans:
        ints = [np.full(_PLANS, -1, np.int64) for _ in range(4)]
        graph, dim, at, size = ints
        return Plans(graph, np.zeros(_PLANS), dim, at, size, np.zeros(_PLANS), coefficients)
