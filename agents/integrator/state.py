"""The integrator's state of one partition: tenants, and their domains in slots.

A tenant is one row; its domains are neighbours in a pool of cells: 4, 8 or 16 of them, moved to
a new place when they outgrow the old one. With 3 domains a tenant takes 440 bytes and its name.

A domain or tenant is known by the code of its name, which changes with every recovery, so nothing
that leaves the state may depend on one. `rank` is what ties are broken by instead.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.names import NameArrays
from agents.integrator.order import precedes
from agents.kit.columns import LONE_HEAD, TableSchema
from agents.kit.packing import Ints, Marks, name_of
from agents.kit.pool import USED, claim
from topics.compiled import kernel

SLOTS = 16  # domains that a tenant can have at once
ROOM = 4  # cells that a tenant's first domain gets it
LISTS = ("domains", "seen", "error", "loss", "weight", "excess", "published")  # a number a domain

COUNT = (0, math.inf)
TENANTS = TableSchema(
    "integrator_state",
    head=LONE_HEAD,
    packed=LISTS,
    # Written where there are any.
    absent={"candidate": 0, "question_weights": 0, "baseline": 0, "policies": 0, "bundles": 0},
    small=(
        "code", "settings", "alive", "at", "size", "n", "unsettled",
        "fusion", "leader", "denied", "said", "frames", "samples", "calm",
    ),
    # Its block of cells, how many are in use, and whether its baseline isn't its own settings.
    extra={"at": 0, "size": 0, "n": 0, "unsettled": 0},
    limits={
        "fusion": (-1, 2), "rounds": COUNT, "said": (0, 5), "question": (-1, math.inf),
        "frames": COUNT, "samples": COUNT,
    },
)  # fmt: skip
CELL = np.dtype(
    [
        ("domain", "i4"),  # code
        ("rank", "i4"),  # place among the tenant's domains in the order of ties; derived
        ("seen", "i8"),  # event time of the domain's latest record, µs
        ("error", "f8"),  # of its last record
        ("loss", "f8"),  # of its last record
        ("weight", "f8"),  # the learner's
        ("excess", "f8"),  # L - min L: cumulative loss above that of the best fresh domain
        ("published", "f8"),  # weight in the last frame; -1: took no part in the last round
        ("prior", "f8"),  # the setting; derived
    ]
)

Structs = NDArray[np.void]


class Arrays(NamedTuple):
    """What kernels take of the state, as it is now."""

    tenants: Structs  # TENANTS
    cells: Structs  # CELL
    counts: Ints  # of the pool of cells
    marks: Marks
    names: NameArrays
    settings: NDArray[np.float64]  # TenantSettings.table
    changes: Ints  # [1]: times that another domain came to lead


@kernel
def has_room(a: Arrays) -> bool:
    """Whether the cells for one more record surely fit."""
    return bool(a.counts[USED] + SLOTS <= a.cells.shape[0])


@kernel
def widen(a: Arrays, r: int, need: int) -> None:
    """Give a tenant so many cells elsewhere. There must be room."""
    tenant = a.tenants[r]
    old = tenant["at"]
    claim(a.counts, a.cells.shape[0], a.tenants["at"], a.tenants["size"], r, need)
    for k in range(tenant["n"]):
        a.cells[tenant["at"] + k] = a.cells[old + k]


@kernel
def rank(a: Arrays, r: int) -> None:
    """Recompute the order of ties among a tenant's domains: by name, never by code."""
    first = a.tenants[r]["at"]
    n = a.tenants[r]["n"]
    for k in range(first, first + n):
        name, before = name_of(a.names, a.cells[k]["domain"]), 0
        for other in range(first, first + n):
            if other != k:
                before += precedes(name_of(a.names, a.cells[other]["domain"]), name)
        a.cells[k]["rank"] = before
