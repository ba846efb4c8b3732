"""Rows of the state topic, taken in again; see `rows` for their form."""

import math

import numpy as np
from numpy.typing import NDArray

from agents.integrator import drift
from agents.integrator.rows import ENDS, SETTING_NAMES, STARTS, Slots, as_settings, slots
from agents.integrator.settings import SETTINGS
from agents.integrator.state import (
    DEAD,
    ROOM,
    SLOTS,
    TABLE,
    Arrays,
    Asked,
    State,
    admit,
    clear,
    has_room,
    rank,
    widen,
)  # fmt: skip
from agents.kit.tenant_settings import limits_of
from topics.columns import Cols, Columns
from topics.compiled import entry, kernel

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

NAMES = np.frombuffer(SETTING_NAMES, np.uint8)
LOW, HIGH, WHOLE = limits_of(SETTINGS)

BAD_LISTS, UNKNOWN_SETTING, BAD_NAME, BAD_VALUE = range(1, 5)
FAULTS = {
    BAD_LISTS: f"its lists differ in length, or have more than {SLOTS} domains",
    UNKNOWN_SETTING: "it holds a setting that this version doesn't know",
    BAD_NAME: "a name lies outside its buffer",
    BAD_VALUE: "a setting has a value that this version refuses",
}


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
    for slot in (s.settings, s.baseline):
        first, n = c.at[slot, k], c.cnt[slot, k]
        if first < 0 or n < 0 or first + n > used:
            return True
    return False


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
def fits(j: int, value: float) -> bool:
    """Whether setting j may have a value."""
    return bool(LOW[j] <= value <= HIGH[j] and (not WHOLE[j] or value == math.floor(value)))


@kernel
def take_values(a: Arrays, row: int, c: Cols, slot: int, k: int, buf: Bytes) -> int:
    """Take a row of own values from a map; returns its fault, 0: none."""
    a.own[row] = np.nan
    for child in range(c.at[slot, k], c.at[slot, k] + c.cnt[slot, k]):
        p, size = c.kpos[child], c.klen[child]
        if p < 0 or size < 0 or p + size > buf.shape[0]:
            return BAD_NAME
        known = False
        for j in range(STARTS.shape[0]):
            if size == ENDS[j] - STARTS[j]:
                equal = True
                for b in range(size):
                    equal &= buf[p + b] == NAMES[STARTS[j] + b]
                if equal:
                    if not fits(j, c.vf[child]):
                        return BAD_VALUE
                    a.own[row, j] = c.vf[child]
                    known = True
        if not known:
            return UNKNOWN_SETTING
    return 0


@kernel
def take_settings(a: Arrays, r: int, c: Cols, s: Slots, k: int, buf: Bytes) -> int:
    """Take the tenant's own settings and its baseline's from row k; returns its fault, 0: none."""
    tenant = a.tenants[r]
    if tenant["settings"] == 0 and r > 0:
        if c.cnt[s.settings, k] == 0 and c.cnt[s.baseline, k] == 0:
            return 0
        tenant["settings"] = a.counts[TABLE]
        a.counts[TABLE] += 2
    row = tenant["settings"]
    fault = take_values(a, row, c, s.settings, k, buf)
    if fault or r == 0:
        return fault
    if as_settings(tenant["calm"], tenant["frames"]):
        drift.settle(a, r)
        return 0
    return int(take_values(a, row + 1, c, s.baseline, k, buf))


@kernel
def take_watched(a: Arrays, r: int, c: Cols, s: Slots, k: int, denied: int) -> None:
    """Take what the veto and the drift remember, but for an open question, from row k."""
    tenant = a.tenants[r]
    tenant["denied"] = denied
    tenant["denied_at"] = c.i[s.denied_at, k]
    tenant["said"] = c.i[s.said, k]
    tenant["question"] = c.i[s.question, k]
    tenant["frames"] = c.i[s.frames, k]
    tenant["samples"] = c.i[s.samples, k]
    tenant["calm"] = c.i[s.calm, k]
    tenant["drift_at"] = c.i[s.drift_at, k]
    tenant["mean_entropy"] = c.f[s.mean_entropy, k]
    tenant["mean_regret"] = c.f[s.mean_regret, k]
    tenant["usual_entropy"] = c.f[s.usual_entropy, k]
    tenant["usual_regret"] = c.f[s.usual_regret, k]
    tenant["spread_entropy"] = c.f[s.spread_entropy, k]
    tenant["spread_regret"] = c.f[s.spread_regret, k]


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
    keys: Ints, leaders: Ints, denied: Ints, names: Ints, buf: Bytes, gone: Bytes,
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
        take_watched(a, r, c, s, k, denied[k])
        fault = take_settings(a, r, c, s, k, buf)
        if fault:
            return k, fault
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
    keys, leaders, denied = np.full((3, hi), -1, np.int64)
    state.names.intern(buf, key_pos, key_len, np.zeros(hi, np.uint8), keys, lo, hi)
    for slot, codes in ((s.leader, leaders), (s.denied, denied)):
        none = ((gone[:hi] != 0) | (c.len[slot][:hi] == 0)).view(np.uint8)
        state.names.intern(buf, c.pos[slot], c.len[slot], none, codes, lo, hi)
    skip = np.ones(rows.used, np.uint8)
    if not mark_names(c, s, lo, hi, gone, skip):
        raise ValueError(f"a state row: {FAULTS[BAD_LISTS]}")
    names = np.full(rows.used, -1, np.int64)
    state.names.intern(buf, c.vpos, c.vlen, skip, names, 0, rows.used)
    state.cover()
    live = gone[lo:hi] == 0
    own = (c.cnt[s.settings, lo:hi] != 0) | (c.cnt[s.baseline, lo:hi] != 0)
    state.table.reserve(2 * int(np.count_nonzero(own & live)))
    state.counts[TABLE] = state.table.rows
    at = lo
    while lo < hi:
        state.grow()
        lo, fault = take_rows(
            state.arrays(), c, s, lo, hi, rows.used, keys, leaders, denied, names, buf, gone
        )
        if fault:
            key = buf[key_pos[lo] : key_pos[lo] + key_len[lo]].tobytes()
            raise ValueError(f"the state row of {key!r}: {FAULTS[fault]}")
    state.table.rows = int(state.counts[TABLE])
    state.table.refresh()
    _take_questions(state, rows, at, hi, buf, keys, gone)


def _take_questions(
    state: State, rows: Columns, lo: int, hi: int, buf: Bytes, keys: Ints, gone: Bytes
) -> None:
    """Take in the questions that rows lo..hi-1 hold; those that tenants don't wait for go."""
    c, s = rows.cols, slots(rows.layout)
    for k in lo + np.flatnonzero((gone[lo:hi] == 0) & (c.i[s.question, lo:hi] >= 0)):
        row = rows.get(int(k), (buf, buf, buf))
        name = state.names.name(int(keys[k]))
        state.asked[name] = Asked(row["question"], row["candidate"], row["question_weights"])
    state.drop_answered()
