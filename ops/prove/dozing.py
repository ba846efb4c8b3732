"""How deep a tenant sleeps, and what acts less there: written again for the verifier."""

from typing import NamedTuple

STATES = ("active", "light", "deep", "freeze")
ACTIVE, FREEZE = STATES[0], STATES[3]
DEPTHS = {"active": 0.0, "light": 0.5, "deep": 1.0, "freeze": 10.0}
TIME_LEAST, HEAT_LEAST = 0.01, 1e-6  # parts of what diffusion and fusion take


class Sleep(NamedTuple):
    """One that isn't over, as a control record says."""

    state: str
    version: int
    wakes: bool  # whether traffic ends it

    @property
    def number(self) -> int:
        """What stands for it in a state row."""
        return (self.version * 2 + self.wakes) * len(STATES) + STATES.index(self.state)


def time_left(state: str) -> float:
    """The part of diffusion's time."""
    return max(TIME_LEAST, 1.0 - 0.5 * DEPTHS[state])


def heat_left(state: str) -> float:
    """The part of fusion's temperature."""
    return max(HEAT_LEAST, 1.0 - 0.5 * DEPTHS[state])


def learning_left(state: str) -> float:
    """The part of every learning rate."""
    return {"active": 1.0, "light": 0.5}.get(state, 0.0)
