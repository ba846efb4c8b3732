"""How important a memory is among its tenant's: a number in [floor, 1] from raw ones of any scale.

A reservoir of 512 (Vitter 1985, algorithm R) knows how the tenant's raw values are distributed; the
scale made of it is made anew every 64 values, by their count. Up to 64 values, and where the upper
tail is short, raw values lie between the least and the most (min-max); where it is longer, between
limits a quarter of q90 - q10 beyond these (winsorised); else on a logistic curve with its middle at
the median and q10 and q90, where they lie alike, at 0.1 and 0.9. At any moment one scale counts for
all memories, and each is monotone, so a larger raw value never counts for less. Where all are the
same, they count one half.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SAMPLE, EVERY = 512, 64
LEAST = 0.05  # the floor: nothing is worth nothing
NEUTRAL = 0.5  # of constants, and of memories of which nobody said how important they are
TAIL_PLAIN, ASYMMETRY_PLAIN = 5.0, 3.0  # up to which min-max will do
TAIL_WINSORISED, TAIL_99_WINSORISED = 15.0, 8.0  # and up to which winsorising will
BEYOND = 0.25  # of q90 - q10: how far winsorised limits lie beyond them
QUANTILES = (0.1, 0.5, 0.9, 0.99)
LOG_9 = math.log(9.0)  # a logistic curve is at 0.1 and 0.9 that far from its middle
MOST = float(np.finfo(np.float64).max)
FARTHEST = 700.0  # an exponent that a float64 still has

# splitmix64 (Steele et al. 2014): which place of the reservoir a value takes follows from its
# number.
_STEP, _WORD = 0x9E3779B97F4A7C15, (1 << 64) - 1
_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
MINMAX, WINSORISED, LOGISTIC = "minmax", "winsorised", "logistic"


@dataclass(frozen=True, slots=True)
class Scale:
    """What makes importance of raw values: linear from `low` to `high`, or logistic around `middle`
    with q90 - q10 = `spread`. Raw values may be as large as a float64, so halves are taken.
    """

    kind: str = MINMAX
    low: float = 0.0
    high: float = 0.0
    middle: float = 0.0
    spread: float = 0.0

    def __call__(self, raw: "npt.NDArray[Any]") -> Floats:
        """Importance (n,) in [LEAST, 1]; NaN, where nobody said it, is NEUTRAL."""
        given = np.asarray(raw, np.float64)
        with np.errstate(all="ignore"):
            made = self._logistic(given) if self.kind == LOGISTIC else self._linear(given)
        return np.where(np.isnan(given), NEUTRAL, np.maximum(made, LEAST))

    def _linear(self, raw: Floats) -> Floats:
        width = self.high / 2 - self.low / 2
        if not width > 0.0:
            return _step(raw, self.low)
        return np.clip((np.clip(raw, self.low, self.high) / 2 - self.low / 2) / width, 0.0, 1.0)

    def _logistic(self, raw: Floats) -> Floats:
        width = self.spread / 2
        if not width > 0.0:
            return _step(raw, self.middle)
        away = np.clip((raw / 2 - self.middle / 2) / width, -FARTHEST, FARTHEST) * (2 * LOG_9)
        return 1.0 / (1.0 + np.exp(-np.clip(away, -FARTHEST, FARTHEST)))


def _step(raw: Floats, at: float) -> Floats:
    """The limit of a scale without any width."""
    return np.where(raw == at, NEUTRAL, np.where(raw < at, LEAST, 1.0))


def scale_of(sample: "npt.NDArray[Any]") -> Scale:
    """The scale for raw values that are distributed as this sample (n,), n >= 1."""
    raw = np.sort(np.asarray(sample, np.float64))
    low, high = float(raw[0]), float(raw[-1])
    if raw.size < EVERY:
        return Scale(MINMAX, low, high)
    # Halves, for differences may be twice the largest float64; of what is there, so quantiles are
    # values, and a sample of constants and few others has q10 = q90.
    q10, q50, q90, q99 = (float(one) for one in np.quantile(raw / 2, QUANTILES, method="nearest"))
    tail, tail_99 = _ratio(high / 2 - q50, q90 - q50), _ratio(q99 - q50, q90 - q50)
    if tail <= TAIL_PLAIN and _ratio(q90 - q50, q50 - q10) <= ASYMMETRY_PLAIN:
        return Scale(MINMAX, low, high)
    spread = q90 - q10
    if tail <= TAIL_WINSORISED and tail_99 <= TAIL_99_WINSORISED:
        bounds = np.array([q10 - BEYOND * spread, q90 + BEYOND * spread])
        most = MOST / 2
        under, over = (float(one) for one in 2 * np.clip(bounds, -most, most))
        return Scale(WINSORISED, under, over)
    return Scale(LOGISTIC, middle=2 * q50, spread=2 * min(spread, MOST / 2))


def _ratio(over: float, under: float) -> float:
    if under > 0.0:
        return over / under
    return math.inf if over > 0.0 else 1.0


@dataclass(slots=True)
class Quantiles:
    """What is known of a tenant's raw values. The n-th value acts the same in any batch."""

    sample: Floats = field(default_factory=lambda: np.zeros(SAMPLE))
    count: int = 0
    scale: Scale = Scale()

    def add(self, raw: float) -> bool:
        """Take one in; whether the scale was made anew. `raw` is finite."""
        place = self.count if self.count < SAMPLE else _mixed(self.count) % (self.count + 1)
        self.count += 1
        if place < SAMPLE:
            self.sample[place] = raw
        if self.count >= EVERY and self.count % EVERY:
            return False
        self.scale = scale_of(self.sample[: min(self.count, SAMPLE)])
        return True


def _mixed(number: int) -> int:
    """A whole number of 64 bits without any pattern, that follows from another."""
    mixed = (number * _STEP + _STEP) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * _MIX_1) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * _MIX_2) & _WORD
    return mixed ^ (mixed >> 31)
