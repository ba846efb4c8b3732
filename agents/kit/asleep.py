"""How deep a tenant sleeps, and what is left of its powers there.

Shared by the processor `sleep`, which decides who sleeps how deep, and by those in which it acts.
A depth s takes some of what a tenant may cost. Nothing grows with it but the budget that memory has
for tidying up, which is best done while nobody asks.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

ACTIVE, LIGHT, DEEP, FREEZE = range(4)
STATES = ("active", "light", "deep", "freeze")
DEPTHS = (0.0, 0.5, 1.0, 10.0)  # s

TAU_MIN = 1e-6  # of the temperature: the least that the integrator's setting can be
ROUNDING = 1e-9  # so that (1 - 0.8 * 0.5) * 100 is 60, whatever the last bit of the product


class Powers(NamedTuple):
    """What a tenant has at a depth."""

    K: int  # most memories that a recall gives
    t: float  # diffusion time of predictions
    tau: float  # temperature of fusion
    eta: float  # learning rate
    lam: float  # decay rate of memories
    B: float  # budget of consolidation: memories visited again a tick


@dataclass(frozen=True, slots=True)
class Rates:
    """The powers of whoever is awake, and how much of them depth takes: 0 to 1 of each."""

    K0: float = 100
    t0: float = 10.0
    tau0: float = 1.0
    eta0: float = 0.1
    lam0: float = 0.01
    B0: float = 0.5
    K_min: int = 1
    t_min: float = 0.1
    alpha_k: float = 0.8
    alpha_t: float = 0.5
    alpha_tau: float = 0.5
    alpha_eta: float = 1.0
    beta_b: float = 0.5
    kept: tuple[float, float, float, float] = (1.0, 0.8, 0.5, 0.0)  # of λ0, by state


DEFAULT = Rates()
KEPT_AS = "sleep"  # among the settings of a state row, where there is one
NUMBER_MAX = 2**53 - 1  # that a double holds exactly
_STATES, _WAKES = 4, 2


def number(state: int, version: int, wakes: bool) -> int:
    """What stands for a sleep in columns and state rows; 0: awake."""
    return (version * _WAKES + wakes) * _STATES + state if state != ACTIVE else 0


def state_of(value: float) -> str:
    """The state in a sleep's number."""
    return STATES[int(value) % _STATES]


def version_of(value: float) -> int:
    """The version in a sleep's number: of the sleep_state that it follows from."""
    return int(value) // (_STATES * _WAKES)


def traffic_wakes(value: float) -> bool:
    """Whether an observation ends the sleep that a number stands for."""
    return bool(int(value) & _STATES)


def said(value: float) -> str:
    """A sleep's number, in words."""
    return f"{state_of(value)}, version {version_of(value)}"


def checked(value: float) -> float:
    """A sleep's number. ValueError if it stands for none."""
    if not 0 < value <= NUMBER_MAX or value != int(value) or int(value) % _STATES == ACTIVE:
        raise ValueError(f"{KEPT_AS}: no sleep has the number {value}")
    return value


def powers(state: int, rates: Rates = DEFAULT) -> Powers:
    """What is left at a depth: K, t, τ, η and λ never grow with it, B never shrinks.

    `rates` has K0 >= K_min, t0 >= t_min and τ0 >= TAU_MIN.
    """
    s, r = DEPTHS[state], rates
    return Powers(
        max(r.K_min, math.floor((1 - r.alpha_k * s) * r.K0 + ROUNDING)),
        max(r.t_min, (1 - r.alpha_t * s) * r.t0),
        max(TAU_MIN, (1 - r.alpha_tau * s) * r.tau0),
        0.0 if state in (DEEP, FREEZE) else (1 - r.alpha_eta * s) * r.eta0,
        r.lam0 * r.kept[state],
        r.B0 + r.beta_b * s,
    )
