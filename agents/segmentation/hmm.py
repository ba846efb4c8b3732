"""Volatile or stable: a hidden Markov model of two states, followed by its forward filter.

Each state has a level and a variance of its own, learned online in proportion to its probability;
both last from one point to the next with probability `stay`. STABLE learns from the points before
the filter begins. VOLATILE starts at the same level with a multiple of STABLE's variance, never
below it, and so explains a wider spread as well as another level, which it then learns. The log-
likelihood ratio of one point is clipped: an outlier alone convinces nobody. Nor does a state learn
of it more than that it was 3 standard deviations away, or 5 from VOLATILE. VOLATILE is on from a
probability above `up`, off from one below `down`. The change lies where the sum of the ratios in
favour of the other state began to rise for good (its last reset to 0, as in Page's test): so states
may be very sticky, which spares false changes, and the place is right all the same.

Where most of the ring lies far from STABLE, or is much calmer (`scale.astray`), that is what is
usual now: STABLE begins anew there, without a boundary. Else VOLATILE would be on for good, or
nothing ever wide enough for it. While it is off VOLATILE keeps no more of a wild time than
MOST_WIDE.

Source: L. R. Rabiner, "A Tutorial on Hidden Markov Models", Proceedings of the IEEE 77 (1989),
section III (forward variable); E. S. Page, "Continuous Inspection Schemes", Biometrika 41 (1954),
for the place. The online estimates are running means weighted by the filter.
"""

import math

from agents.segmentation.points import FAR as MOST
from agents.segmentation.points import within
from agents.segmentation.rule import RING, Bank, Work
from agents.segmentation.scale import astray, first_of, scale_of
from agents.segmentation.state import S
from topics.compiled import kernel

FIRST = 15  # points that STABLE learns from before the filter begins
RATE = 0.003  # of a state's running mean and variance
WIDE = 9.0  # VOLATILE's variance, at first, in those of STABLE
LEAST = 4.0  # and ever, at least
CLIP = 4.0  # of one point's log-likelihood ratio
NEAR, FAR = 3.0, 5.0  # standard deviations that STABLE, and VOLATILE, hear of
MOST_WIDE = 1000.0  # VOLATILE's variance while it is off, in those of STABLE, at most
STILL = 1e-12  # of the squared spread: no state's variance is less


@kernel
def learn(b: Bank, r: int, x: float, p: float) -> None:
    """Let both states learn from a point that was VOLATILE's with probability p."""
    own = b.floats[r, S.h_variance]
    d = within(x - b.floats[r, S.h_level], NEAR * math.sqrt(own))
    gain = RATE * (1.0 - p)
    b.floats[r, S.h_level] += gain * d
    b.floats[r, S.h_variance] += gain * (d * d - own)
    own = b.floats[r, S.h_wide]
    d = within(x - b.floats[r, S.h_high], FAR * math.sqrt(own))
    gain = 2.0 * RATE * p
    b.floats[r, S.h_high] += gain * d
    own += gain * (d * d - own)
    b.floats[r, S.h_wide] = max(own, LEAST * b.floats[r, S.h_variance])
    if b.ints[r, S.h_on] == 0:
        most = MOST_WIDE * b.floats[r, S.h_variance]
        b.floats[r, S.h_wide] = min(b.floats[r, S.h_wide], most)
        d = within(b.floats[r, S.h_high] - b.floats[r, S.h_level], math.sqrt(most))
        b.floats[r, S.h_high] = b.floats[r, S.h_level] + d


@kernel
def begin(b: Bank, r: int, level: float, variance: float) -> None:
    """Let STABLE be so, and on, and VOLATILE begin there, and wider."""
    b.floats[r, S.h_level] = level
    b.floats[r, S.h_variance] = variance
    b.floats[r, S.h_high] = level
    b.floats[r, S.h_wide] = WIDE * variance
    b.floats[r, S.h_p] = 0.0
    b.floats[r, S.h_sum] = 0.0
    b.ints[r, S.h_on] = 0


@kernel
def settle(b: Bank, r: int, w: Work) -> None:
    """Begin, STABLE with what the points before the last one tell, or anew where it is astray.

    So the filter is the same whether it is on from the start, after a warm-up or by a setting.
    """
    if b.ints[r, S.h_since] < 0:
        level, variance = first_of(b, r, b.ints[r, S.seen] - 1 - FIRST, FIRST, w.spare[0])
        begin(b, r, level, variance)
        return
    own = math.sqrt(b.floats[r, S.h_variance])
    strange, level, deviation = astray(b, r, b.floats[r, S.h_level], own, w.spare[0])
    if strange:
        begin(b, r, level, deviation * deviation)


@kernel
def rest(b: Bank, r: int) -> None:
    """Forget the filter: it is off, and begins anew when it is on again."""
    b.ints[r, S.h_since] = -1


@kernel
def hmm(b: Bank, r: int, w: Work, stay: float, up: float, down: float) -> tuple[int, float]:
    """After a push: (first point of the other state, its probability), or (-1, 0)."""
    count = b.ints[r, S.seen]
    if count <= FIRST:
        return -1, 0.0
    settle(b, r, w)
    x = within(math.ldexp(b.value[r, (count - 1) % RING], -int(b.ints[r, S.unit])), MOST)
    _, spread = scale_of(b, r)
    b.floats[r, S.h_variance] = max(b.floats[r, S.h_variance], STILL * spread * spread)
    narrow = b.floats[r, S.h_variance]
    wide = max(b.floats[r, S.h_wide], LEAST * narrow)
    if not narrow > 0.0:
        return -1, 0.0
    ratio = 0.5 * (
        (x - b.floats[r, S.h_level]) ** 2 / narrow
        - (x - b.floats[r, S.h_high]) ** 2 / wide
        - math.log(wide / narrow)
    )
    ratio = max(-CLIP, ratio) if ratio <= CLIP else CLIP  # nor is it NaN from here on
    prior = b.floats[r, S.h_p] * stay + (1.0 - b.floats[r, S.h_p]) * (1.0 - stay)
    odds = prior / (1.0 - prior) * math.exp(ratio)
    p = odds / (1.0 + odds)
    b.floats[r, S.h_p] = p
    learn(b, r, x, p)
    on = b.ints[r, S.h_on] != 0
    if b.floats[r, S.h_sum] <= 0.0:
        b.floats[r, S.h_sum] = 0.0
        b.ints[r, S.h_since] = count - 1
    b.floats[r, S.h_sum] += -ratio if on else ratio
    if (on and p >= down) or (not on and p <= up):
        return -1, 0.0
    point = max(b.ints[r, S.h_since], count - RING + 1)  # the point before it is in the ring
    b.ints[r, S.h_on] = 0 if on else 1
    b.floats[r, S.h_sum] = 0.0
    return int(point), 1.0 - p if on else p
