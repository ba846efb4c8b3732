"""The integrator's state as rows of its topic; `loading` takes them in again, exactly.

A row is a tenant (key: its name; '*': the partition's settings). With 3 domains it takes about 290
bytes, of which 56 for each domain are numbers. Derived values (ranks, what settings count) aren't
in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import StateRows
from agents.integrator import drift
from agents.integrator.settings import SETTINGS
from agents.integrator.state import Arrays, State
from topics.columns import Cols, Layout
from topics.compiled import entry, kernel

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


PER_DOMAIN = 7  # lists with a child for each domain
# The settings' names end to end, and where each begins: what kernels compare and point to.
SETTING_NAMES = "".join(SETTINGS).encode()
ENDS = np.cumsum([len(name) for name in SETTINGS])
STARTS = np.concatenate((np.zeros(1, np.int64), ENDS[:-1]))


class Slots(NamedTuple):
    """Where the fields lie in the arrays of their kinds."""

    domains: int
    seen: int
    error: int
    loss: int
    weight: int
    excess: int
    published: int
    fusion: int
    leader: int
    leader_since: int
    delta: int
    regret: int
    rounds: int
    late: int
    config_version: int
    settings: int
    touched: int
    denied: int
    denied_at: int
    said: int
    question: int
    candidate: int
    question_weights: int
    frames: int
    samples: int
    calm: int
    drift_at: int
    mean_entropy: int
    mean_regret: int
    usual_entropy: int
    usual_regret: int
    spread_entropy: int
    spread_regret: int
    baseline: int


def slots(layout: Layout) -> Slots:
    """The slots of the state row's layout."""
    return Slots(*(layout.slots[name] for name in Slots._fields))


@kernel
def put_list(c: Cols, slot: int, k: int, child: int, count: int) -> int:
    """Give list `slot` of row k its children; returns the next free one."""
    c.at[slot, k] = child
    c.cnt[slot, k] = count
    return child + count


@kernel
def put_domains(a: Arrays, r: int, c: Cols, s: Slots, k: int, child: int) -> int:
    """Write the tenant's domains, list by list; returns the next free child."""
    tenant = a.tenants[r]
    n = tenant["n"]
    lists = (s.domains, s.seen, s.error, s.loss, s.weight, s.excess, s.published)
    start = child
    for slot in lists:
        child = put_list(c, slot, k, child, n)
    for j in range(n):
        cell = a.cells[tenant["cells"] + j]
        c.vpos[start + j] = a.at[cell["domain"]]
        c.vlen[start + j] = a.size[cell["domain"]]
        c.vi[start + n + j] = cell["seen"]
        c.vf[start + 2 * n + j] = cell["error"]
        c.vf[start + 3 * n + j] = cell["loss"]
        c.vf[start + 4 * n + j] = cell["weight"]
        c.vf[start + 5 * n + j] = cell["excess"]
        c.vf[start + 6 * n + j] = cell["published"]
    return child


@kernel
def put_values(a: Arrays, row: int, c: Cols, slot: int, k: int, child: int, text: int) -> int:
    """Write a row of own values (-1: none) as a map; the settings' names begin at `text`."""
    start = child
    if row >= 0:
        for j in range(a.own.shape[1]):
            if a.own[row, j] == a.own[row, j]:
                c.kpos[child] = text + STARTS[j]
                c.klen[child] = ENDS[j] - STARTS[j]
                c.vf[child] = a.own[row, j]
                child += 1
    return put_list(c, slot, k, start, child - start)


@kernel
def as_settings(calm: int, frames: int) -> bool:
    """Whether a tenant's baseline surely has its own settings."""
    return bool(calm >= drift.WINDOW or frames == 0)


@kernel
def put_settings(a: Arrays, r: int, c: Cols, s: Slots, k: int, child: int, text: int) -> int:
    """Write the tenant's own settings, and its baseline's if they may differ."""
    tenant = a.tenants[r]
    row = tenant["settings"] if tenant["settings"] > 0 or r == 0 else -1
    child = put_values(a, row, c, s.settings, k, child, text)
    if row <= 0 or as_settings(tenant["calm"], tenant["frames"]):
        row = -2
    return put_values(a, row + 1, c, s.baseline, k, child, text)


@kernel
def put_name(a: Arrays, code: int, c: Cols, slot: int, k: int) -> None:
    """Write a name (-1: none) into row k."""
    c.pos[slot, k] = a.at[code] if code >= 0 else 0
    c.len[slot, k] = a.size[code] if code >= 0 else 0


@kernel
def put_watched(a: Arrays, r: int, c: Cols, s: Slots, k: int) -> None:
    """Write what the veto and the drift remember, but for an open question."""
    tenant = a.tenants[r]
    put_name(a, tenant["denied"], c, s.denied, k)
    c.i[s.denied_at, k] = tenant["denied_at"]
    c.i[s.said, k] = tenant["said"]
    c.i[s.question, k] = tenant["question"]
    c.pos[s.candidate, k] = 0
    c.len[s.candidate, k] = 0
    c.at[s.question_weights, k] = 0
    c.cnt[s.question_weights, k] = 0
    c.i[s.frames, k] = tenant["frames"]
    c.i[s.samples, k] = tenant["samples"]
    c.i[s.calm, k] = tenant["calm"]
    c.i[s.drift_at, k] = tenant["drift_at"]
    c.f[s.mean_entropy, k] = tenant["mean_entropy"]
    c.f[s.mean_regret, k] = tenant["mean_regret"]
    c.f[s.usual_entropy, k] = tenant["usual_entropy"]
    c.f[s.usual_regret, k] = tenant["usual_regret"]
    c.f[s.spread_entropy, k] = tenant["spread_entropy"]
    c.f[s.spread_regret, k] = tenant["spread_regret"]


@entry
def put_rows(
    a: Arrays, codes: Ints, c: Cols, s: Slots, text: int, key_pos: Ints, key_len: Ints, gone: Bytes
) -> int:
    """Write the row of each name, a tombstone where it is no tenant; returns children in use."""
    child = 0
    for k in range(codes.shape[0]):
        key_pos[k] = a.at[codes[k]]
        key_len[k] = a.size[codes[k]]
        r = a.row[codes[k]]
        gone[k] = r < 0
        if r < 0:
            continue
        tenant = a.tenants[r]
        child = put_domains(a, r, c, s, k, child)
        child = put_settings(a, r, c, s, k, child, text)
        put_watched(a, r, c, s, k)
        put_name(a, tenant["leader"], c, s.leader, k)
        c.i[s.fusion, k] = tenant["fusion"]
        c.i[s.leader_since, k] = tenant["since"]
        c.f[s.delta, k] = tenant["delta"]
        c.f[s.regret, k] = tenant["regret"]
        c.i[s.rounds, k] = tenant["rounds"]
        c.i[s.late, k] = tenant["late"]
        c.i[s.config_version, k] = tenant["version"]
        c.i[s.touched, k] = tenant["touched"]
    return child


@entry
def children(a: Arrays, codes: Ints) -> int:
    """How many children the rows of these names need."""
    total = 0
    for code in codes:
        r = a.row[code]
        if r >= 0:
            total += PER_DOMAIN * a.tenants[r]["n"] + 2 * a.own.shape[1]
    return total


def write(state: State, codes: Ints, rows: StateRows) -> None:
    """Write the rows of these names, which must differ, into `rows` from its first on."""
    a = state.arrays()
    count = codes.shape[0]
    rows.columns.reserve(count, children(a, codes))
    if rows.key_pos.shape[0] < count:
        size = max(count, 2 * rows.key_pos.shape[0])
        rows.key_pos, rows.key_len = np.zeros((2, size), np.int64)
        rows.gone = np.zeros(size, np.uint8)
    text = rows.scratch.append(SETTING_NAMES)
    rows.columns.used = put_rows(
        a, codes, rows.columns.cols, slots(rows.columns.layout), text,
        rows.key_pos, rows.key_len, rows.gone,
    )  # fmt: skip
    rows.n = count
    live = state.row[codes]
    for k in np.flatnonzero((live >= 0) & (state.tenants["question"][live] >= 0)):
        asked = state.asked[state.names.name(int(codes[k]))]
        for name, value in (("candidate", asked.leader), ("question_weights", asked.weights)):
            rows.columns.put_field(int(k), rows.columns.layout.by_name[name], value, rows.scratch)
