"""One partition's predictors: the law over batches, settings and ticks, and the state's rows."""

import sys

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import Batch, Context, Control, Output, StateRows
from agents.kit.tenant_settings import TenantSettings
from agents.predictors import outputs as out
from agents.predictors import rows as forms
from agents.predictors import state as st
from agents.predictors import taking
from agents.predictors.calibration import PRIOR, grown, reports
from agents.predictors.diffusion import LANCZOS_STEPS, LANCZOS_WORK, NONE, named
from agents.predictors.kernels import (
    DIM_MAX,
    DONE,
    NEED_POOL,
    NEED_REPORTS,
    Found,
    Source,
    Work,
    fold_rows,
    inspect,
    join,
)
from agents.predictors.plans import PlanBook
from agents.predictors.settings import FORGET_AFTER, GRAPH, NEXT, SETTINGS, TIME
from topics.columns import Columns

if sys.byteorder != "little":
    raise ImportError("vectors are little-endian on the wire, and so must this machine be")


class PredictorFold:
    """The predictors' `processor.Fold`."""

    def __init__(self, context: Context) -> None:
        self._prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self._settings = TenantSettings(SETTINGS, context.defaults)
        self._plans = PlanBook()
        self._state = st.State()
        self._spans = np.zeros((4, 0), np.int64)  # per record: entity; key's place, size, tenant's
        self._keys = np.empty(0, np.uint8)
        self._work = _work(16)
        self._found = _found(0)
        self._reports = reports(64)

    @property
    def names(self) -> NDArray[np.uint8]:
        return self._state.names.pool

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        self._state.sweep()
        source = _source(batch)
        good, size, longest = inspect(source, lo, hi)
        if good < 0:
            raise ValueError(f"record {size} of the batch points outside the batch's buffer")
        if not good:
            return
        self._reserve(hi, size, longest)
        ids, pos, length, tenant = self._spans
        join(source, lo, hi, self._keys, pos, length, tenant)
        self._state.name_entities(self._keys, pos, length, batch.status, tenant, ids, lo, hi)
        records, self._reports.used[0] = lo + np.flatnonzero(batch.status[lo:hi] == 0), 0
        wanted = bool(self._settings.table[:, NEXT].any())
        out.place(outputs[2], source, records, self._found, wanted)
        while lo < hi:
            state, own = self._state, self._settings
            lo, why = fold_rows(
                source, lo, hi, ids, state.e, state.pool, own.table, own.version,
                self._plans.plans, self._work, self._found, self._reports, outputs[2].scratch.data,
            )  # fmt: skip
            if why != DONE:
                self._provide(source, lo, why, ids)
        out.updates(outputs[0], source, records, self._found, self._prefix)
        out.calibrations(outputs[1], source, self._reports, self._prefix)
        following = records[self._found.next_at[records] >= 0]
        out.next_events(outputs[2], source, following, self._found, self._prefix)

    def control(self, control: Control) -> str | None:
        self._state.sweep()
        if control.kind == "tick":
            state = self._state
            st.forget(state.e, state.names.count, self._forget_after(), control.ts)
            return None
        if control.kind != "setting":
            return f"the predictors know no control record of kind {control.kind!r}"
        try:
            self._settings.change(control.tenant, control.setting, control.value)
        except ValueError as error:
            return str(error)
        k = self._settle(control.tenant)
        st.mark(self._state.e, k)
        return None

    def changed(self, rows: StateRows) -> None:
        e = self._state.e
        ids = e.changed[: e.counts[st.CHANGED]].copy()
        self._write(rows, ids)
        e.dirty[ids] = 0
        e.counts[st.CHANGED] = 0

    def rows_all(self, rows: StateRows) -> None:
        """Write every row of the state, changed or not, in no particular order."""
        names, e = self._state.names, self._state.e
        keep = e.live[: names.count] != 0
        for tenant in self._settings.tenants():
            keep[self._state.tenant(tenant)] = True
        self._write(rows, np.flatnonzero(keep))

    def load(
        self,
        rows: Columns,
        lo: int,
        hi: int,
        buf: NDArray[np.uint8],
        key_pos: NDArray[np.int64],
        key_len: NDArray[np.int64],
        gone: NDArray[np.uint8],
    ) -> None:
        self._reserve(hi, 0, 0)
        ids, tenant = self._spans[0], self._spans[3]
        if (bad := taking.tenant_sizes(buf, key_pos, key_len, lo, hi, tenant)) < hi:
            raise ValueError(f"the key of state row {bad} lies outside its buffer")
        self._state.name_entities(
            buf, key_pos, key_len, np.zeros(hi, np.uint8), tenant, ids, lo, hi
        )
        slots, single = forms.slots_of(rows.layout), np.empty(DIM_MAX, np.float32)
        while lo < hi:
            state = self._state
            lo, why = taking.take(
                state.e, state.pool, ids, key_len, tenant, gone, buf, rows.cols, slots, lo, hi,
                DIM_MAX, single,
            )  # fmt: skip
            if why == taking.FULL:
                state.grow_pool(st.block(int(rows.cols.i[slots.dim, lo])))
            elif why == taking.SETTINGS:
                self._take_settings(rows, lo, buf, int(ids[lo]), bool(gone[lo]))
                lo += 1
            elif why == taking.BAD:
                key = buf[key_pos[lo] : key_pos[lo] + key_len[lo]].tobytes()
                raise ValueError(f"the state row {key!r} contradicts itself")

    def deadline(self) -> int | None:
        state = self._state
        first = st.first_expiry(state.e, state.names.count, self._forget_after())
        return None if first < 0 else int(first)

    def tenants(self) -> int:
        """How many (tenant, domain) are remembered."""
        return int(self._state.e.counts[st.LIVE])

    def _forget_after(self) -> NDArray[np.float64]:
        return np.ascontiguousarray(self._settings.table[:, FORGET_AFTER])

    def _settle(self, tenant: str) -> int:
        """Let a tenant's entities look up their settings where they now stand; returns its name."""
        k = self._state.tenant(tenant)
        self._state.e.slot[k] = self._settings.row(tenant)
        if not self._state.e.slot[k]:
            self._state.e.counts[st.DROPPED] += 1
        return k

    def _take_settings(
        self, rows: Columns, row: int, buf: NDArray[np.uint8], k: int, gone: bool
    ) -> None:
        tenant = self._state.names.name(k).decode()
        found = {} if gone else rows.get(row, (buf, buf, buf))["settings"]
        self._settings.replace(tenant, found)
        self._settle(tenant)

    def _write(self, rows: StateRows, ids: NDArray[np.int64]) -> None:
        state, slots = self._state, forms.slots_of(rows.columns.layout)
        forms.write(rows, state.e, state.names, state.pool, ids, slots)
        for r in np.flatnonzero(state.e.owner[ids] == ids):
            own = self._settings.own(state.names.name(int(ids[r])).decode())
            rows.gone[r] = not own
            ordered = {name: own[name] for name in SETTINGS if name in own}
            rows.columns.put(int(r), _BLANK | {"settings": ordered}, rows.scratch)

    def _provide(self, source: Source, r: int, why: int, ids: NDArray[np.int64]) -> None:
        """Give the fold of record r what it lacks."""
        n = int(source.cols.len[source.vector, r]) // 4
        if why == NEED_POOL:
            self._state.grow_pool(st.block(n))
        elif why == NEED_REPORTS:
            self._reports = grown(self._reports)
        else:
            e = self._state.e
            values = self._settings.table[e.slot[e.owner[ids[r]]]]
            self._plans.make(int(values[GRAPH]), float(values[TIME]), n)

    def _reserve(self, records: int, key_bytes: int, longest: int) -> None:
        if self._spans.shape[1] < records:
            size = max(records, 2 * self._spans.shape[1])
            self._spans, self._found = np.zeros((4, size), np.int64), _found(size)
        if self._keys.shape[0] < key_bytes:
            self._keys = np.empty(2 * key_bytes, np.uint8)
        if self._work.single.shape[0] < longest:
            self._work = _work(longest)


_BLANK = {
    "dim": 0, "n": 0, "weight": 0.0, "x": b"", "level": b"", "step": b"", "ratio": b"", "runs": b"",
    "m2": b"", "restarts": 0, "ts": 0, "touched": 0, "median": 0.0, "median_run": 0, "slope": 1.0,
    "bias": 0.0, "info_slope": PRIOR, "info_both": 0.0, "info_bias": PRIOR, "logit": None,
    "samples": 0, "bins": [], "sums": [],
}  # fmt: skip


def _work(longest: int) -> Work:
    seen, a, b, c = (np.zeros(longest) for _ in range(4))
    basis = np.zeros((LANCZOS_STEPS + 1, longest))
    small = np.zeros((LANCZOS_WORK, LANCZOS_STEPS))
    single, graph = np.zeros(longest, np.float32), named(NONE)
    return Work(single, seen, a, b, c, basis, small, graph.start, graph.neighbour)


def _found(records: int) -> Found:
    predictor, next_at = np.zeros(records, np.int64), np.full(records, -1)
    return Found(np.zeros(records), np.zeros(records), predictor, next_at)


def _source(batch: Batch) -> Source:
    slots = batch.columns.layout.slots
    return Source(
        batch.buf, batch.status, batch.offsets, batch.log_ms, batch.columns.cols,
        slots["tenant"], slots["domain"], slots["vector"], slots["ts"],
    )  # fmt: skip
