"""One partition's integrator: predictor_update records in, one global_frame each out.

A frame carries the weights and the last raw errors of the fresh domains, in slot order. Its
config_version counts the settings changed so far, the tenant's own and the partition's.
"""

import math
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.places import PLACE_MAX, put_place
from agents.engine.processor import ROOM_REASONS, Batch, Context, Control, Output, StateRows
from agents.integrator import rows as form
from agents.integrator import rule
from agents.integrator.round import Round, find, play
from agents.integrator.rule import entry, kernel
from agents.integrator.settings import FORGET, HEDGE, STALE, Table, parse
from agents.integrator.state import (
    ALL,
    DIRTY,
    ROOM,
    SLOTS,
    TENANTS,
    Arrays,
    State,
    admit,
    has_room,
    touch,
)  # fmt: skip
from topics.columns import Cols, Columns, Layout

REASONS = ("error_not_finite", "error_negative", "name", "too_many_domains")
NOT_FINITE, NEGATIVE, NAME, TOO_MANY = range(ROOM_REASONS, ROOM_REASONS + len(REASONS))

TENANT_NAME = re.compile(r"\*|[A-Za-z0-9._-]{1,128}")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Into(NamedTuple):
    """Where the fields lie that are read (update_…) and written, in the arrays of their kinds."""

    update_tenant: int
    update_domain: int
    update_observation_id: int
    update_error: int
    update_ts: int
    frame_id: int
    tenant: int
    domain: int
    leader: int
    rationale: int
    observation_id: int
    weights: int
    errors: int
    confidence: int
    entropy: int
    regret_bound: int
    ts: int
    dwell_ms: int
    veto: int
    config_version: int


class Source(NamedTuple):
    """A batch, with the codes of its names."""

    cols: Cols
    tenants: Ints
    domains: Ints
    offsets: Ints
    log_ms: Ints
    status: NDArray[np.uint8]


class Sink(NamedTuple):
    """What frames are written into."""

    cols: Cols
    cause: Ints
    scratch: NDArray[np.uint8]
    prefix: NDArray[np.uint8]


@kernel
def refuse(error: float) -> int:
    """Why an error can't be folded; 0: it can."""
    if not math.isfinite(error):
        return NOT_FINITE
    return NEGATIVE if error < 0.0 else 0


@kernel
def put_name(a: Arrays, code: int, pos: Ints, size: Ints, at: int) -> None:
    """Make span `at` of two arrays the bytes of a name."""
    pos[at] = a.at[code]
    size[at] = a.size[code]


@kernel
def put_frame(
    a: Arrays, r: int, n: int, leader: int, t: int, w: Round, f: Into, out: Cols, o: int, child: int
) -> int:
    """Write what follows from the tenant into row o; returns the next free child."""
    tenant = a.tenants[r]
    put_name(a, tenant["leader"], out.pos[f.leader], out.len[f.leader], o)
    out.pos[f.rationale, o] = 0
    out.len[f.rationale, o] = 0
    out.i[f.ts, o] = t
    out.i[f.dwell_ms, o] = max(0, t - tenant["since"]) // 1000
    out.i[f.veto, o] = 0
    out.i[f.config_version, o] = tenant["version"] + a.tenants[0]["version"]
    out.f[f.confidence, o] = w.p[leader]
    hedged = tenant["fusion"] == HEDGE
    out.f[f.regret_bound, o] = rule.regret_bound(tenant["rounds"], n) if hedged else math.nan
    out.at[f.weights, o] = child
    out.cnt[f.weights, o] = n
    out.at[f.errors, o] = child + n
    out.cnt[f.errors, o] = n
    for j in range(n):
        cell = a.cells[w.cell[j]]
        put_name(a, cell["domain"], out.kpos, out.klen, child + j)
        put_name(a, cell["domain"], out.kpos, out.klen, child + n + j)
        out.vf[child + j] = w.p[j]
        out.vf[child + n + j] = cell["error"]
    return child + 2 * n


@kernel
def copy_span(source: Cols, s: int, i: int, out: Cols, d: int, o: int) -> None:
    """A span of record i becomes one of row o."""
    out.pos[d, o] = source.pos[s, i]
    out.len[d, o] = source.len[s, i]


@entry
def fold(
    a: Arrays, source: Source, sink: Sink, f: Into, w: Round, lo: int, hi: int,
    o: int, child: int, text: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Fold records lo..hi-1; stops where an array is full.

    o, child and text say how much of rows, children and scratch is in use. Returns the next record,
    and these three as they are then.
    """
    out = sink.cols
    for i in range(lo, hi):
        if source.status[i] != 0:
            continue
        error = source.cols.f[f.update_error, i]
        bad = refuse(error)
        if bad == 0 and (source.tenants[i] <= 0 or source.domains[i] < 0):  # 0 is '*'
            bad = NAME
        if bad != 0:
            source.status[i] = bad
            continue
        if not has_room(a) or o >= sink.cause.shape[0] or o >= out.i.shape[1]:
            return i, o, child, text
        if child + 2 * SLOTS > out.vf.shape[0] or text + PLACE_MAX > sink.scratch.shape[0]:
            return i, o, child, text
        r = int(a.row[source.tenants[i]])
        if r < 0:
            r = admit(a, source.tenants[i], ROOM)
        tenant = a.tenants[r]
        values = a.effective[tenant["settings"]]
        t = source.cols.i[f.update_ts, i]
        k = find(a, r, source.domains[i], t, values[STALE] * 1000.0, values[FORGET] * 1e6)
        if k < 0:
            source.status[i] = TOO_MANY
            continue
        n, leader, h = play(a, r, k, t, error, w)
        tenant["touched"] = max(tenant["touched"], source.log_ms[i])
        touch(a, source.tenants[i])
        out.f[f.entropy, o] = h
        child = put_frame(a, r, n, leader, t, w, f, out, o, child)
        copy_span(source.cols, f.update_tenant, i, out, f.tenant, o)
        copy_span(source.cols, f.update_domain, i, out, f.domain, o)
        copy_span(source.cols, f.update_observation_id, i, out, f.observation_id, o)
        end = put_place(sink.scratch, text, sink.prefix, source.offsets[i])
        out.pos[f.frame_id, o] = text
        out.len[f.frame_id, o] = end - text
        text = end
        sink.cause[o] = i
        o += 1
    return hi, o, child, text


def into(update: Layout, frame: Layout) -> Into:
    """The slots of both layouts."""
    read = {"tenant", "domain", "observation_id", "ts"}
    names = {f"update_{name}": update.slots[name] for name in read}
    names["update_error"] = update.slots["error_metric"]
    rest = [name for name in Into._fields if name not in names]
    return Into(**names, **{name: frame.slots[name] for name in rest})


class Integrator:
    """The Fold of the integrator."""

    def __init__(self, context: Context) -> None:
        self.state = State(Table(context.defaults))
        self.prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self.round = Round(
            np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64), *np.zeros((6, SLOTS))
        )
        self.codes = np.zeros((2, 0), np.int64)
        self._into: Into | None = None
        self._deadline: int | None = None
        self._settled = True  # nobody holds spans into the names: a batch is done

    @property
    def names(self) -> NDArray[np.uint8]:
        """The bytes that SRC_NAMES spans point into, as they are now."""
        return self.state.names.pool

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0; one frame each."""
        (out,) = outputs
        state = self.state
        self._begin()
        source = batch.columns
        f = self._into = self._into or into(source.layout, out.columns.layout)
        if self.codes.shape[1] < hi:
            self.codes = np.zeros((2, max(hi, 2 * self.codes.shape[1])), np.int64)
        for codes, slot in zip(self.codes, (f.update_tenant, f.update_domain), strict=True):
            pos, size = source.cols.pos[slot], source.cols.len[slot]
            state.names.intern(batch.buf, pos, size, batch.status, codes, lo, hi)
        state.cover()
        given = Source(source.cols, self.codes[0], self.codes[1],
            batch.offsets, batch.log_ms, batch.status)  # fmt: skip
        while lo < hi:
            out.reserve(hi - lo, max(6 * (hi - lo), 2 * SLOTS), (hi - lo) * PLACE_MAX)
            state.grow()
            lo, out.n, out.columns.used, out.scratch.used = fold(
                state.arrays(), given,
                Sink(out.columns.cols, out.cause, out.scratch.data, self.prefix),
                f, self.round, lo, hi, out.n, out.columns.used, out.scratch.used,
            )  # fmt: skip

    def _begin(self) -> None:
        """At the first call of a batch: give back memory if that is worth it."""
        if self._settled:
            self.state.tidy()
            self._settled = False

    def control(self, control: Control) -> str | None:
        """Apply a setting or a tick; returns None, or why it is refused."""
        self._begin()
        if control.kind == "tick":
            self._tick(control.ts)
            return None
        if control.kind != "setting":
            return f"no control {control.kind[:40]!r} is known here"
        if not TENANT_NAME.fullmatch(control.tenant):
            return "tenant: '*', or 1-128 of [A-Za-z0-9._-]"
        try:
            k, value = parse(control.setting, control.value)
        except ValueError as error:
            return str(error)
        self._set(control.tenant.encode(), k, value, control.log_ms)
        return None

    def _set(self, name: bytes, k: int, value: float, log_ms: int) -> None:
        """Give a tenant a value of its own (NaN: take it back). Counts as a sign of life."""
        state, table = self.state, self.state.table
        r = state.seat(name)
        tenant = state.tenants[r]
        if tenant["settings"] == 0 and name != ALL:
            tenant["settings"] = table.add()
        table.put(int(tenant["settings"]), k, value)
        tenant["version"] += 1
        tenant["touched"] = max(int(tenant["touched"]), log_ms)
        touch(state.arrays(), int(tenant["name"]))
        self._deadline = None

    def _tick(self, ts: int) -> None:
        """Forget the tenants whose time has come by the wall time `ts`, in microseconds."""
        due = self._due()
        rows = np.flatnonzero(due <= ts)
        if rows.shape[0]:
            self.state.forget(rows)
        self._deadline = None

    def _due(self) -> NDArray[np.float64]:
        """When each tenant is to be forgotten, in microseconds; infinite for '*' and the dead."""
        state = self.state
        tenants = state.tenants[: state.counts[TENANTS]]
        due: NDArray[np.float64]
        due = tenants["touched"] * 1e3 + state.table.effective[tenants["settings"], FORGET] * 1e6
        due[tenants["alive"] == 0] = np.inf
        due[0] = np.inf
        return due

    def deadline(self) -> int | None:
        """Wall time in microseconds before which no tick would change anything; None: none would.

        It may be early (records since put it off), never late while the broker's clock goes on.
        """
        if self._deadline is None and self.tenants():
            self._deadline = int(np.ceil(self._due().min()))
        return self._deadline

    def tenants(self) -> int:
        """How many tenants the state holds."""
        return self.state.living

    def changed(self, rows: StateRows) -> None:
        """Write the rows changed since the last call, in the order of their first change."""
        count = int(self.state.counts[DIRTY])
        form.write(self.state, self.state.dirty[:count], rows)
        self.state.flag[self.state.dirty[:count]] = 0
        self.state.counts[DIRTY] = 0
        self._settled = True

    def rows_all(self, rows: StateRows) -> None:
        """Write the row of every tenant (and of '*' once it has been set), in any order."""
        tenants = self.state.tenants[: self.state.counts[TENANTS]]
        wanted = tenants["alive"] != 0
        wanted[0] = tenants["version"][0] > 0
        form.write(self.state, tenants["name"][wanted].astype(np.int64), rows)

    def load(
        self,
        rows: Columns,
        lo: int,
        hi: int,
        buf: NDArray[np.uint8],
        key_pos: Ints,
        key_len: Ints,
        gone: NDArray[np.uint8],
    ) -> None:
        """Take in rows lo..hi-1 of the state topic; later ones replace earlier ones."""
        form.load(self.state, rows, lo, hi, buf, key_pos, key_len, gone)
        self._deadline = None
