"""A series of any length as a picture needs it: the least, the greatest and the mean per bucket."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BUCKETS = 2048


class Envelope:
    """Constant memory: when all buckets are full, neighbours merge and each holds twice as many."""

    def __init__(self, buckets: int = BUCKETS) -> None:
        """`buckets` is even."""
        self.width = 1  # points in a bucket
        self.count = 0
        self._low: Floats = np.full(buckets, np.nan)
        self._high: Floats = np.full(buckets, np.nan)
        self._mean: Floats = np.full(
            buckets, np.nan
        )  # of the finite values; no sum, which might overflow
        self._finite = np.zeros(buckets, np.int64)

    def push(self, value: float) -> None:
        """Take the next point; NaN leaves a gap."""
        k = self.count // self.width
        if k == len(self._low):
            self._merge()
            k = self.count // self.width
        self.count += 1
        if math.isnan(value):
            return
        self._low[k] = np.fmin(self._low[k], value)
        self._high[k] = np.fmax(self._high[k], value)
        self._finite[k] += 1
        mean = 0.0 if self._finite[k] == 1 else self._mean[k]
        self._mean[k] = mean + (value / self._finite[k] - mean / self._finite[k])

    def curves(self) -> tuple[Floats, Floats, Floats, Floats]:
        """(middle index, least, greatest, mean) of the buckets in use; NaN where nothing was."""
        used = -(-self.count // self.width)
        x = np.arange(used, dtype=np.float64) * self.width + (self.width - 1) / 2
        return x, self._low[:used], self._high[:used], self._mean[:used]

    def _merge(self) -> None:
        half = len(self._low) // 2
        finite = self._finite.reshape(half, 2)
        share = finite / np.maximum(1, finite.sum(axis=1, keepdims=True))
        mean = np.where(finite > 0, self._mean.reshape(half, 2), 0.0)
        both = finite.sum(axis=1)
        merged = (
            (np.fmin.reduce(self._low.reshape(half, 2), axis=1), self._low),
            (np.fmax.reduce(self._high.reshape(half, 2), axis=1), self._high),
            (np.where(both > 0, (mean * share).sum(axis=1), np.nan), self._mean),
        )
        for new, old in merged:
            old[:half], old[half:] = new, np.nan
        self._finite[:half], self._finite[half:] = both, 0
        self.width *= 2
