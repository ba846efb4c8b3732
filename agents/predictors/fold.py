"""One partition's predictors: the law over batches; the kit does the rest."""

import sys

import numpy as np

from agents.engine.processor import Batch, Context, Output
from agents.kit.column_table import ColumnTable
from agents.kit.columnar import ColumnarFold
from agents.kit.keys import Keys
from agents.kit.store import Store
from agents.predictors import outputs as out
from agents.predictors import state as st
from agents.predictors.calibration import grown, reports
from agents.predictors.diffusion import LANCZOS_STEPS, LANCZOS_WORK, NONE, named
from agents.predictors.kernels import (
    DONE,
    NEED_POOL,
    NEED_REPORTS,
    Found,
    Source,
    Work,
    fold_rows,
    inspect,
)
from agents.predictors.plans import PlanBook
from agents.predictors.rows import DomainTable
from agents.predictors.settings import GRAPH, NEXT, SETTINGS, TIME
from agents.predictors.state import TENANTS, Entities

if sys.byteorder != "little":
    raise ImportError("vectors are little-endian on the wire, and so must this machine be")


class PredictorFold(ColumnarFold):
    """The predictors' `processor.Fold`."""

    def __init__(self, context: Context) -> None:
        self._domains = DomainTable()
        tenants = ColumnTable(TENANTS)
        super().__init__(Store(SETTINGS, context.defaults, tenants, self._domains, by_name=False))
        self._prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self._plans = PlanBook()
        self._ids = np.zeros(0, np.int64)  # per record: its row
        self._keys = Keys()
        self._work = _work(16)
        self._found = _found(0)
        self._reports = reports(64)

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        store = self.store
        store.tidy()
        source = _source(batch)
        good, size, longest = inspect(source, lo, hi)
        if good < 0:
            raise ValueError(f"record {size} of the batch points outside the batch's buffer")
        if not good:
            return
        self._reserve(hi, longest)
        ids, keys, tenant = self._ids, self._keys, source.cols.len[source.tenant]
        keys.join(batch, source.tenant, source.domain, lo, hi, size)
        store.find_domains(keys.text, keys.pos, keys.size, tenant, batch.status, ids, lo, hi)
        records, self._reports.used[0] = lo + np.flatnonzero(batch.status[lo:hi] == 0), 0
        own, slot = store.settings, store.tenants.rows["settings"]
        out.place(outputs[2], source, records, self._found, bool(own.table[:, NEXT].any()))
        e, pool = self._domains.views(Entities), self._domains.pool
        while lo < hi:
            lo, why = fold_rows(
                source, lo, hi, ids, e, store.marks, pool.data, pool.counts, slot, own.table,
                own.version, self._plans.plans, self._work, self._found, self._reports,
                outputs[2].scratch.data,
            )  # fmt: skip
            n = int(source.cols.len[source.vector, lo]) // 4 if why != DONE else 0
            if why == NEED_POOL:
                self._domains.reserve(st.block(n))
            elif why == NEED_REPORTS:
                self._reports = grown(self._reports)
            elif why != DONE:
                values = own.table[slot[e.owner[ids[lo]]]]
                self._plans.make(int(values[GRAPH]), float(values[TIME]), n)
        out.updates(outputs[0], source, records, self._found, self._prefix)
        out.calibrations(outputs[1], source, self._reports, self._prefix)
        following = records[self._found.next_at[records] >= 0]
        out.next_events(outputs[2], source, following, self._found, self._prefix)

    def _reserve(self, records: int, longest: int) -> None:
        if self._ids.shape[0] < records:
            size = max(records, 2 * self._ids.shape[0])
            self._ids, self._found = np.zeros(size, np.int64), _found(size)
        if self._work.single.shape[0] < longest:
            self._work = _work(longest)


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
