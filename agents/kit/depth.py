"""How deep a tenant sleeps, as kernels read it: the last number of a row of settings.

Factors are 1 for whoever is awake: they change no bit there.
"""

import numpy as np

from agents.kit.asleep import DEFAULT, FREEZE, powers
from agents.kit.packing import Floats
from topics.compiled import kernel

_STATES = 4

_EACH = [powers(state, DEFAULT) for state in range(_STATES)]
TIME = np.array([one.t / DEFAULT.t0 for one in _EACH])  # of what diffusion takes
TEMPERATURE = np.array([one.tau / DEFAULT.tau0 for one in _EACH])
LEARNING = np.array([one.eta / DEFAULT.eta0 for one in _EACH])  # of every learning rate


@kernel
def depth(values: Floats) -> int:
    """The state of whom these settings are."""
    return int(values[values.shape[0] - 1]) & (_STATES - 1)


@kernel
def frozen(values: Floats) -> bool:
    """Whether nothing is to be written for whom these settings are."""
    return depth(values) == FREEZE
