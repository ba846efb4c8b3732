"""The order of ties between domains: state, agent, action, then all others by name, bytewise."""

import numpy as np
from numpy.typing import NDArray

from topics.compiled import kernel

Bytes = NDArray[np.uint8]

STATE = np.frombuffer(b"state", np.uint8)
AGENT = np.frombuffer(b"agent", np.uint8)
ACTION = np.frombuffer(b"action", np.uint8)


@kernel
def same(a: Bytes, b: Bytes) -> bool:
    """Whether two byte strings are equal."""
    if a.shape[0] != b.shape[0]:
        return False
    equal = True
    for j in range(a.shape[0]):
        equal &= a[j] == b[j]
    return bool(equal)


@kernel
def seniority(name: Bytes) -> int:
    """Place in the order of ties: state, agent, action, then all others."""
    if same(name, STATE):
        return 0
    if same(name, AGENT):
        return 1
    if same(name, ACTION):
        return 2
    return 3


@kernel
def precedes(a: Bytes, b: Bytes) -> bool:
    """Whether domain `a` wins a tie against `b`: by seniority, then bytewise."""
    x, y = seniority(a), seniority(b)
    if x != y:
        return x < y
    for j in range(min(a.shape[0], b.shape[0])):
        if a[j] != b[j]:
            return bool(a[j] < b[j])
    return bool(a.shape[0] < b.shape[0])
