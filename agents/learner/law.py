"""What rewards and errors of a tenant teach: a temperature, and a prior for each domain.

A frame says which errors the domains had, and who was followed. Its losses are averaged by domain
over an exponential window; the best domain is the one with the least average, and the regret of
another is how much more it lost in that window. A reward speaks of one frame, and moves the
tenant's average reward E.

    temperature = clamp(0.8 - 0.5 * (E - 0.5), 0.1, 1), which annealing lets fall to tau_min
    prior of a domain = clamp(1 - its regret, 0.1, 1)

Both rates fall with the depth of a sleep; in deep sleep nothing is learned.

A frame can be rewarded while it is in the tenant's window: `FRAMES` frames at most, none older than
`window_s` of event time. A reward whose frame isn't there yet waits, `WAITING` of a tenant at most.
Frames are numbered by their ids, which rise, so it is known which can still come.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agents.kit.asleep import DEFAULT, powers

REGRET_RATE, REWARD_RATE = 0.15, 0.2  # of the exponential means
TAU, MIDDLE, SLOPE = 0.8, 0.5, 0.5  # the temperature at a middling reward, and how it falls
TAU_LEAST, TAU_MOST, PRIOR_LEAST = 0.1, 1.0, 0.1
REWARD_MOST = 1.0  # a larger one, or a lower one than minus that, counts as that
NONE, EXPONENTIAL, STEP, LINEAR = ANNEALS = ("none", "exponential", "step", "linear")
STEP_PART = 0.5  # that a step of annealing leaves

FRAMES = 256  # of a tenant that can be rewarded
WAITING = 16  # rewards of a tenant whose frames aren't there yet
DIGITS_MAX = 18  # of a frame's number
DOMAINS = 16  # of a tenant: as many as the integrator lets it have
WORTH_SAYING = 0.01  # a change by a larger part than that
SECOND = 1_000_000

REWARDED, TAUGHT = 1, 2  # what a frame has had


@dataclass(slots=True)
class Learning:
    """What is known of a tenant, as the state topic has it. Times are microseconds."""

    place: str = ""  # what ids of its frames begin with
    frames: list[int] = field(default_factory=list)  # their numbers, rising
    times: list[int] = field(default_factory=list)  # event time of each
    had: list[int] = field(default_factory=list)  # of each: REWARDED or TAUGHT or both
    leader: str = ""  # whom the last frame lets be followed
    losses: dict[str, float] = field(default_factory=dict)  # mean by domain
    regret: float = 0.0  # mean of following the leaders
    reward: float = 0.0  # mean
    rewards: int = 0  # that were learned from
    waiting: list[str] = field(default_factory=list)  # rewards, as JSON, in the order they came
    until: list[int] = field(default_factory=list)  # log time to which each waits
    said: dict[str, float] = field(default_factory=dict)  # settings as they were changed last
    said_at: int = 0  # log time
    due: int | None = None


# --- the law --------------------------------------------------------------------------------------


def clamp(value: float, low: float, high: float) -> float:
    """The nearest number of [low, high]."""
    return min(high, max(low, value))


def toward(mean: float, value: float, rate: float) -> float:
    """An exponential mean, one value on."""
    return mean + rate * (value - mean)


def awake(state: int) -> float:
    """The part of every learning rate that is left in a state of sleep; 0: nothing is learned."""
    return powers(state).eta / DEFAULT.eta0


def loss(error: float, alpha: float) -> float:
    """1 - exp(-alpha * error)."""
    return -math.expm1(-alpha * error)


def total(task: float, user: float, latency: float, safety: float, cost: float) -> float:
    """What all was worth, where nobody says it."""
    return task + user + safety - latency - cost


def temperature(reward: float) -> float:
    """The temperature that a mean reward leads to: well rewarded, weights are sharper."""
    return clamp(TAU - SLOPE * (reward - MIDDLE), TAU_LEAST, TAU_MOST)


def annealed(tau: float, n: int, how: str, rate: float, least: float) -> float:
    """A temperature after n rewards, on its way to `least`; never above what it was."""
    if how == NONE or least >= tau:
        return tau
    left = {
        EXPONENTIAL: math.exp(-rate * n),
        STEP: STEP_PART ** math.floor(rate * n),
        LINEAR: max(0.0, 1.0 - rate * n),
    }[how]
    return least + (tau - least) * left


def priors(losses: Mapping[str, float], fresh: Iterable[str]) -> dict[str, float]:
    """A prior for each fresh domain, by the mean losses."""
    best = min((losses[name] for name in fresh), default=0.0)
    return {name: clamp(1.0 - (losses[name] - best), PRIOR_LEAST, 1.0) for name in fresh}


def observe(
    row: Learning, leader: str, errors: Mapping[str, float], part: float, alpha: float
) -> None:
    """Learn from a frame's errors; `part` of every rate is left."""
    now = {name: loss(error, alpha) for name, error in errors.items()}
    rate = part * REGRET_RATE
    for name, one in now.items():
        row.losses[name] = toward(row.losses.get(name, one), one, rate)
    silent = [name for name in row.losses if name not in now]
    for name in silent[: max(0, len(row.losses) - DOMAINS)]:
        del row.losses[name]
    if row.leader in now:
        best = min(now, key=lambda name: (row.losses[name], name))
        row.regret = toward(row.regret, now[row.leader] - now[best], rate)
    row.leader = leader


def reward(row: Learning, value: float, part: float) -> None:
    """Learn from a reward."""
    row.reward = toward(row.reward, clamp(value, -REWARD_MOST, REWARD_MOST), part * REWARD_RATE)
    row.rewards += part > 0


def worth_saying(said: float, value: float) -> bool:
    """Whether a value has changed by enough."""
    return abs(value - said) > WORTH_SAYING * abs(said)


# --- the window of frames -------------------------------------------------------------------------


def number_of(frame_id: str) -> tuple[str, int]:
    """An id's beginning, and its number; ("", -1) for what is none."""
    place, _, number = frame_id.rpartition("-")
    good = number.isascii() and number.isdigit() and len(number) <= DIGITS_MAX
    return (f"{place}-", int(number)) if good and place else ("", -1)


def note(row: Learning, frame_id: str, ts: int, window: int) -> None:
    """Take a frame into the window (of microseconds), and let go whose time is over."""
    place, number = number_of(frame_id)
    if place != row.place or (row.frames and number <= row.frames[-1]):  # a topic made anew
        row.place, row.frames, row.times, row.had = place, [], [], []
    row.frames.append(number)
    row.times.append(ts)
    row.had.append(0)
    newest, gone = max(row.times), max(0, len(row.frames) - FRAMES)
    while gone < len(row.times) - 1 and row.times[gone] < newest - window:
        gone += 1
    del row.frames[:gone], row.times[:gone], row.had[:gone]


def take_waiting(row: Learning, frame_id: str) -> list[str]:
    """The rewards that wait for a frame, which wait no longer."""
    found = [k for k, one in enumerate(row.waiting) if json.loads(one)["frame_id"] == frame_id]
    return _taken(row, found)


def take_over(row: Learning, now: int) -> list[str]:
    """The rewards that have waited long enough."""
    return _taken(row, [k for k, until in enumerate(row.until) if until <= now])


def wait(row: Learning, text: str, until: int) -> list[str]:
    """Let a reward wait; returns the oldest where there would be too many."""
    row.waiting.append(text)
    row.until.append(until)
    return _taken(row, list(range(len(row.waiting) - WAITING)))


def _taken(row: Learning, which: list[int]) -> list[str]:
    taken = [row.waiting[k] for k in which]
    for k in reversed(which):
        del row.waiting[k], row.until[k]
    row.due = min(row.until, default=None)
    return taken
