"""The integrator's state as rows of its topic, and back, exactly.

A row is a tenant (key: its name; '*': the partition's settings). With 3 domains it takes about 250
bytes, of which 56 for each domain are numbers. Derived values (ranks, what settings count) aren't
in it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import StateRows
from agents.integrator import settings
from agents.integrator.rule import entry, kernel
from agents.integrator.state import (
    DEAD,
    ROOM,
    SLOTS,
    TABLE,
    Arrays,
    State,
    admit,
    clear,
    has_room,
    rank,
    widen,
)  # fmt: skip
from topics.columns import Cols, Columns, Layout

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


PER_DOMAIN = 7  # lists with a child for each domain
SETTING_NAMES = np.frombuffer(settings.NAMES, np.uint8)
STARTS, ENDS = settings.STARTS, settings.ENDS

BAD_LISTS, UNKNOWN_SETTING, BAD_NAME = range(1, 4)
FAULTS = {
    BAD_LISTS: f"its lists differ in length, or have more than {SLOTS} domains",
    UNKNOWN_SETTING: "it holds a setting that this version doesn't know",
    BAD_NAME: "a name lies outside its buffer",
}


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
def put_settings(a: Arrays, r: int, c: Cols, s: Slots, k: int, child: int, text: int) -> int:
    """Write the tenant's own settings; their names begin at `text` of the scratch."""
    row = a.tenants[r]["settings"]
    start = child
    if row > 0 or r == 0:
        for j in range(a.own.shape[1]):
            if a.own[row, j] == a.own[row, j]:
                c.kpos[child] = text + STARTS[j]
                c.klen[child] = ENDS[j] - STARTS[j]
                c.vf[child] = a.own[row, j]
                child += 1
    return put_list(c, s.settings, k, start, child - start)


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
        leader = tenant["leader"]
        c.pos[s.leader, k] = a.at[leader] if leader >= 0 else 0
        c.len[s.leader, k] = a.size[leader] if leader >= 0 else 0
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
            total += PER_DOMAIN * a.tenants[r]["n"] + a.own.shape[1]
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
    text = rows.scratch.append(settings.NAMES)
    rows.columns.used = put_rows(
        a, codes, rows.columns.cols, slots(rows.columns.layout), text,
        rows.key_pos, rows.key_len, rows.gone,
    )  # fmt: skip
    rows.n = count


@entry
def mark_names(c: Cols, s: Slots, lo: int, hi: int, gone: Bytes, skip: Bytes) -> bool:
    """skip[child] = 0 for each domain's name; False: a list lies outside the children."""
    for k in range(lo, hi):
        if gone[k]:
            continue
        first, n = c.at[s.domains, k], c.cnt[s.domains, k]
        if first < 0 or n < 0 or first + n > skip.shape[0]:
            return False
        skip[first : first + n] = 0
    return True


@kernel
def bad_lists(c: Cols, s: Slots, k: int, used: int) -> bool:
    """Whether the lists of a row don't fit together, or lie outside the children."""
    n = c.cnt[s.domains, k]
    if n > SLOTS or n < 0:
        return True
    for slot in (s.domains, s.seen, s.error, s.loss, s.weight, s.excess, s.published):
        first = c.at[slot, k]
        if c.cnt[slot, k] != n or first < 0 or first + n > used:
            return True
    first, n = c.at[s.settings, k], c.cnt[s.settings, k]
    return bool(first < 0 or n < 0 or first + n > used)


@kernel
def take_domains(a: Arrays, r: int, c: Cols, s: Slots, k: int, names: Ints) -> bool:
    """Fill the tenant's cells from row k; False: a domain's name is bad."""
    tenant = a.tenants[r]
    n = c.cnt[s.domains, k]
    tenant["n"] = 0
    if n > tenant["room"]:
        widen(a, r, ROOM if n <= ROOM else 8 if n <= 8 else SLOTS)
    for j in range(n):
        cell = a.cells[tenant["cells"] + j]
        cell["domain"] = names[c.at[s.domains, k] + j]
        if cell["domain"] < 0:
            return False
        cell["seen"] = c.vi[c.at[s.seen, k] + j]
        cell["error"] = c.vf[c.at[s.error, k] + j]
        cell["loss"] = c.vf[c.at[s.loss, k] + j]
        cell["weight"] = c.vf[c.at[s.weight, k] + j]
        cell["excess"] = c.vf[c.at[s.excess, k] + j]
        cell["published"] = c.vf[c.at[s.published, k] + j]
    tenant["n"] = n
    rank(a, r)
    return True


@kernel
def take_settings(a: Arrays, r: int, c: Cols, s: Slots, k: int, buf: Bytes) -> bool:
    """Take the tenant's own settings from row k; False: one is unknown."""
    tenant = a.tenants[r]
    n = c.cnt[s.settings, k]
    if tenant["settings"] == 0 and r > 0:
        if n == 0:
            return True
        tenant["settings"] = a.counts[TABLE]
        a.counts[TABLE] += 1
    a.own[tenant["settings"]] = np.nan
    for child in range(c.at[s.settings, k], c.at[s.settings, k] + n):
        p, size = c.kpos[child], c.klen[child]
        if p < 0 or size < 0 or p + size > buf.shape[0]:
            return False
        known = False
        for j in range(STARTS.shape[0]):
            if size == ENDS[j] - STARTS[j]:
                equal = True
                for b in range(size):
                    equal &= buf[p + b] == SETTING_NAMES[STARTS[j] + b]
                if equal:
                    a.own[tenant["settings"], j] = c.vf[child]
                    known = True
        if not known:
            return False
    return True


@kernel
def let_go(a: Arrays, code: int) -> None:
    """Obey a tombstone; that of '*' takes all its settings back."""
    r = a.row[code]
    if r > 0:
        a.tenants[r]["alive"] = 0
        a.row[code] = -1
        a.counts[DEAD] += 1
    elif r == 0:
        clear(a, 0)
        a.own[0] = np.nan


@entry
def take_rows(
    a: Arrays, c: Cols, s: Slots, lo: int, hi: int, used: int,
    keys: Ints, leaders: Ints, names: Ints, buf: Bytes, gone: Bytes,
) -> tuple[int, int]:  # fmt: skip
    """Take in rows lo..hi-1: (the next, 0) where there is no room, or (a bad one, its fault)."""
    for k in range(lo, hi):
        if keys[k] < 0:
            return k, BAD_NAME
        if gone[k]:
            let_go(a, keys[k])
            continue
        if bad_lists(c, s, k, used):
            return k, BAD_LISTS
        if not has_room(a):
            return k, 0
        r = a.row[keys[k]]
        if r < 0:
            r = admit(a, keys[k], 0)
        tenant = a.tenants[r]
        if not take_domains(a, r, c, s, k, names):
            return k, BAD_NAME
        if not take_settings(a, r, c, s, k, buf):
            return k, UNKNOWN_SETTING
        tenant["leader"] = leaders[k]
        tenant["fusion"] = c.i[s.fusion, k]
        tenant["since"] = c.i[s.leader_since, k]
        tenant["delta"] = c.f[s.delta, k]
        tenant["regret"] = c.f[s.regret, k]
        tenant["rounds"] = c.i[s.rounds, k]
        tenant["late"] = c.i[s.late, k]
        tenant["version"] = c.i[s.config_version, k]
        tenant["touched"] = c.i[s.touched, k]
    return hi, 0


def load(
    state: State, rows: Columns, lo: int, hi: int,
    buf: Bytes, key_pos: Ints, key_len: Ints, gone: Bytes,
) -> None:  # fmt: skip
    """Take in rows lo..hi-1; spans and keys point into `buf`. Raises ValueError for a bad row."""
    c, s = rows.cols, slots(rows.layout)
    keys, leaders = np.full((2, hi), -1, np.int64)
    state.names.intern(buf, key_pos, key_len, np.zeros(hi, np.uint8), keys, lo, hi)
    leader_len = c.len[s.leader]
    no_leader = (gone[:hi] != 0) | (leader_len[:hi] == 0)
    state.names.intern(buf, c.pos[s.leader], leader_len, no_leader.view(np.uint8), leaders, lo, hi)
    skip = np.ones(rows.used, np.uint8)
    if not mark_names(c, s, lo, hi, gone, skip):
        raise ValueError(f"a state row: {FAULTS[BAD_LISTS]}")
    names = np.full(rows.used, -1, np.int64)
    state.names.intern(buf, c.vpos, c.vlen, skip, names, 0, rows.used)
    state.cover()
    live = gone[lo:hi] == 0
    state.table.reserve(int(np.count_nonzero(c.cnt[s.settings, lo:hi][live])))
    state.counts[TABLE] = state.table.rows
    while lo < hi:
        state.grow()
        lo, fault = take_rows(
            state.arrays(), c, s, lo, hi, rows.used, keys, leaders, names, buf, gone
        )
        if fault:
            key = buf[key_pos[lo] : key_pos[lo] + key_len[lo]].tobytes()
            raise ValueError(f"the state row of {key!r}: {FAULTS[fault]}")
    state.table.rows = int(state.counts[TABLE])
    state.table.refresh()
