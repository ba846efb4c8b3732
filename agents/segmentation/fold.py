"""One partition's segmentation: global_frame records in, a segment_boundary for each segment's end.

A frame feeds the series of the domain that moved with that domain's error, and the tenant's time
under its leader. A frame without a finite error of its domain feeds the latter only.
"""

from collections.abc import Mapping

import numpy as np

from agents.engine.processor import Batch, Context, Output, Tally
from agents.kit.columnar import ColumnarFold
from agents.kit.keys import Keys
from agents.kit.store import Store
from agents.segmentation.detect import EVIDENCE, found
from agents.segmentation.frames import (
    Arrays,
    B,
    F,
    Sink,
    Source,
    fold,
    newcomers,
    whole,
)
from agents.segmentation.rows import SeriesTable, TenantTable
from agents.segmentation.rule import Ints, work
from agents.segmentation.settings import SETTINGS

REASONS = {
    "too_many_domains": f"the tenant has as many domains as its setting domains_max allows "
    f"({SETTINGS['domains_max'].default} unless it is set): further ones are refused"
}

BOUNDARIES = "soma_boundaries_total"
TALLIES = (Tally(BOUNDARIES, "Segment boundaries written.", "evidence"),)

ROWS, TEXT = 64, 16_384  # boundaries, and bytes of their ids, that space is made for at a time


class Segmentation(ColumnarFold):
    """The Fold of segmentation."""

    def __init__(self, context: Context) -> None:
        self._series, self._tenants = SeriesTable(), TenantTable()
        super().__init__(Store(SETTINGS, context.defaults, self._tenants, self._series))
        self._work = work()
        self._found = found()
        self._whose = np.zeros((3, 0), np.int64)  # the tenant's row; codes of series and leader
        self._keys = Keys()
        self._written = np.zeros(len(EVIDENCE), np.int64)  # boundaries, since `counted`

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0."""
        (out,) = outputs
        self.store.tidy()
        self._intern(batch, lo, hi)
        tenants, series, leaders = self._whose
        source = Source(
            batch.buf, batch.columns.cols, tenants, series, leaders, batch.log_ms, batch.status
        )
        self._admit(source, lo, hi)
        text, before = TEXT, out.n
        out.reserve(ROWS, 0, text)
        while lo < hi:
            sink = Sink(out.columns.cols, out.cause, out.scratch.data)
            lo, out.n, out.scratch.used = fold(
                self._arrays(), source, sink, self._work, self._found, lo, hi, out.n,
                out.scratch.used,
            )  # fmt: skip
            if lo < hi:
                text *= 2  # one record's ids may be longer than that
                out.reserve(ROWS, 0, text)
        shown = out.columns.cols.i[B.evidence, before : out.n]
        self._written += np.bincount(shown, minlength=len(EVIDENCE))

    def counted(self) -> Mapping[str, int]:
        """Boundaries written since the last call, by what showed them."""
        counts = {f"{BOUNDARIES}:{EVIDENCE[k]}": int(n) for k, n in enumerate(self._written) if n}
        self._written[:] = 0
        return counts

    def _arrays(self) -> Arrays:
        """The state as it is now."""
        names, tenants = self.store.names, self._tenants.memory
        return Arrays(
            tenants.wholes, tenants.reals, self._series.bank(), self._series.of, self.store.marks,
            names.at, names.size, names.pool, self.store.settings.table,
        )  # fmt: skip

    def _admit(self, source: Source, lo: int, hi: int) -> None:
        """Make the series of records lo..hi-1 that are new, or refuse the records."""
        new = np.empty(hi - lo, np.int64)
        new = new[: newcomers(self._arrays(), source, lo, hi, new)]
        if new.shape[0]:
            owners = self._tenants.rows["code"][source.tenants[new]]
            of = self.store.admit(source.series[new], owners)
            self._series.settle(of, self.store.settings.table)

    def _intern(self, batch: Batch, lo: int, hi: int) -> None:
        """Find whose records lo..hi-1 are: tenants, series and leaders."""
        if self._whose.shape[1] < hi:
            self._whose = np.zeros((3, max(hi, 2 * self._whose.shape[1])), np.int64)
        buf, cols, status, keys = batch.buf, batch.columns.cols, batch.status, self._keys
        tenants, series, leaders = self._whose
        if not whole(buf, cols, status, lo, hi):
            raise ValueError("a record of the batch points outside the batch's buffer")
        good = status[lo:hi] == 0
        need = hi - lo + int(cols.len[[F.tenant, F.domain], lo:hi][:, good].sum())
        keys.join(batch, F.tenant, F.domain, lo, hi, need)
        store, nobody = self.store, np.ones(hi, np.uint8)
        nobody[lo:hi] = status[lo:hi] | (cols.len[F.leader, lo:hi] == 0)
        store.find_tenants(buf, cols.pos[F.tenant], cols.len[F.tenant], status, tenants, lo, hi)
        store.names.intern(keys.text, keys.pos, keys.size, status, series, lo, hi)
        store.names.intern(buf, cols.pos[F.leader], cols.len[F.leader], nobody, leaders, lo, hi)
        store.cover()

    def settled(self, r: int, of: Ints) -> None:
        for s in self._series.settle(of, self.store.settings.table).tolist():
            self.store.mark(int(self._series.rows["code"][s]))

    def loaded(self) -> None:
        series = self._series.rows
        of = np.flatnonzero((series["code"] >= 0) & (series["b_used"] == 0))
        self._series.settle(of, self.store.settings.table)
