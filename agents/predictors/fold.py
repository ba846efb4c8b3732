"""One partition's predictors: the law over batches; the kit does the rest."""

import sys

import numpy as np

from agents.engine.processor import Batch, Context, Control, Output
from agents.kit.asleep import ACTIVE
from agents.kit.batches import source_of
from agents.kit.column_table import ColumnTable
from agents.kit.columnar import ColumnarFold
from agents.kit.store import Store
from agents.kit.tenant_settings import AWAKE
from agents.predictors import kernels, requests
from agents.predictors import outputs as out
from agents.predictors import state as st
from agents.predictors.calibration import grown, reports
from agents.predictors.diffusion import LANCZOS_STEPS, LANCZOS_WORK
from agents.predictors.kernels import FIELD, SINGLE, Found, Work
from agents.predictors.plans import PlanBook
from agents.predictors.requests import Wish
from agents.predictors.rows import DomainTable
from agents.predictors.settings import GRAPH, NEXT, SETTINGS
from agents.predictors.sleepers import Sleepers

if sys.byteorder != "little":
    raise ImportError("vectors are little-endian on the wire, and so must this machine be")


NOBODY = np.empty(0, np.int64)


class PredictorFold(ColumnarFold):
    """The predictors' `processor.Fold`."""

    def __init__(self, context: Context) -> None:
        self._domains, tenants = DomainTable(), ColumnTable(st.TENANTS)
        super().__init__(Store(SETTINGS, context.defaults, tenants, self._domains, by_name=False))
        self._prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self._plans = PlanBook()
        self._work = _work(16)
        self._reports = reports(64)
        self._wishes: list[Wish] = []  # of ticks, to be written with the records behind them
        self._sleepers = Sleepers()
        self.by_sleep = self._sleepers.take
        self.store.next_due = self._next_due

    def _next_due(self) -> float:
        """When somebody is to sleep, as far as is known."""
        return float(requests.idle(self.store)[0].min(initial=np.inf))

    def control(self, control: Control) -> str | None:
        """A tick puts the silent to sleep as well, once those are gone who are forgotten."""
        store = self.store
        if control.kind != "tick":
            slept = store.settings.sleep_of(control.tenant) != AWAKE
            refusal = super().control(control)
            if slept and store.settings.sleep_of(control.tenant) == AWAKE:
                requests.woken(store, control.tenant, control.log_ms)
            return refusal
        store.tidy()
        were = requests.sleepers(store) if store.settings.anybody_wakes else NOBODY
        refusal = super().control(control)
        self._wishes += requests.let_go(store, were, control)
        self._wishes += requests.put_to_sleep(store, control)
        return refusal

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        store, source = self.store, source_of(batch)
        store.tidy()
        longest = kernels.inspect(source, lo, hi)
        if longest > self._work.single.shape[0]:
            self._work = _work(longest)
        ids, found = store.domains_of(batch, lo, hi), _found(hi)
        records, self._reports.used[0] = lo + np.flatnonzero(batch.status[lo:hi] == 0), 0
        own = store.settings
        if own.anybody_wakes:
            self._wishes += requests.wake(store, source, records, ids)
        if self._wishes:
            requests.tell(outputs[3], self._wishes, self._prefix.tobytes().decode())
            self._wishes = []
        slot = store.tenants.rows["settings"]
        out.place(outputs[2], source, records, found, bool(own.table[:, NEXT].any()))
        while lo < hi:
            lo, why = kernels.fold_rows(
                source, lo, hi, ids, self._domains.views(st.Entities), store.marks, slot, own.table,
                own.version, self._plans.plans, self._work, found, self._reports,
                outputs[2].scratch.data,
            )  # fmt: skip
            n = int(source.cols.len[FIELD.vector, lo]) // SINGLE if why != kernels.DONE else 0
            if why == kernels.NEED_POOL:
                self._domains.reserve(st.block(n))
            elif why == kernels.NEED_REPORTS:
                self._reports = grown(self._reports)
            elif why != kernels.DONE:
                values = own.table[slot[self._domains.rows["owner"][ids[lo]]]]
                self._plans.make(int(values[GRAPH]), kernels.diffusion_time(values), n)
        if not own.anybody_sleeps:
            self._sleepers.note(ACTIVE, source, records, found.error)
        else:
            how = own.table[slot[self._domains.rows["owner"][ids[records]]], -1]
            self._sleepers.add(how, source, records, found.error)
            records = records[found.predictor[records] != kernels.SILENT]
        out.updates(outputs[0], source, records, found, self._prefix)
        out.calibrations(outputs[1], source, self._reports, self._prefix)
        following = records[found.next_at[records] >= 0]
        out.next_events(outputs[2], source, following, found, self._prefix)


def _work(longest: int) -> Work:
    seen, a, b, c = (np.zeros(longest) for _ in range(4))
    basis = np.zeros((LANCZOS_STEPS + 1, longest))
    small = np.zeros((LANCZOS_WORK, LANCZOS_STEPS))
    return Work(np.zeros(longest, np.float32), seen, a, b, c, basis, small)


def _found(records: int) -> Found:
    error, confidence = np.empty((2, records))
    predictor, next_at = np.empty((2, records), np.int64)
    return Found(error, confidence, predictor, next_at)
