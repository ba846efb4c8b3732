"""One partition's segmentation: global_frame records in, a segment_boundary for each segment's end.

A frame feeds the series of the domain that moved with that domain's error, and the tenant's time
under its leader. A frame without a finite error of its domain feeds the latter only.
"""

import numpy as np

from agents.engine.processor import Batch, Context, Output, Tally
from agents.kit.batches import Source, sink_of, source_of
from agents.kit.columnar import ColumnarFold
from agents.kit.store import Store
from agents.segmentation import frames
from agents.segmentation.detect import EVIDENCE, found
from agents.segmentation.frames import Arrays, B, Whose
from agents.segmentation.rows import SeriesTable, TenantTable
from agents.segmentation.rule import Ints, work
from agents.segmentation.settings import SETTINGS
from agents.segmentation.state import TENANTS

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
        self._series, self._tenants = SeriesTable(), TenantTable(TENANTS)
        super().__init__(Store(SETTINGS, context.defaults, self._tenants, self._series))
        self._work = work()
        self._found = found()

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0."""
        (out,), store, source = outputs, self.store, source_of(batch)
        store.tidy()
        whose = Whose(
            store.tenants_of(batch, lo, hi), store.keys_of(batch, lo, hi),
            store.codes_of(batch, "leader", lo, hi),
        )  # fmt: skip
        self._admit(source, whose, lo, hi)
        text, before = TEXT, out.n
        out.reserve(ROWS, 0, text)
        while lo < hi:
            lo, out.n, out.scratch.used = frames.fold(
                self._arrays(), source, whose, sink_of(out), self._work, self._found, lo, hi, out.n,
                out.scratch.used,
            )  # fmt: skip
            if lo < hi:
                text *= 2  # one record's ids may be longer than that
                out.reserve(ROWS, 0, text)
        shown = np.bincount(out.columns.cols.i[B.evidence, before : out.n])
        self.counts.update({f"{BOUNDARIES}:{EVIDENCE[k]}": n for k, n in enumerate(shown.tolist())})

    def _arrays(self) -> Arrays:
        """The state as it is now."""
        store = self.store
        return Arrays(
            self._tenants.rows, self._series.bank(), self._series.of, store.marks,
            store.names.arrays, store.settings.table,
        )  # fmt: skip

    def _admit(self, source: Source, whose: Whose, lo: int, hi: int) -> None:
        """Make the series of records lo..hi-1 that are new, or refuse the records."""
        new = np.empty(hi - lo, np.int64)
        new = new[: frames.newcomers(self._arrays(), source, whose, lo, hi, new)]
        if new.shape[0]:
            owners = self._tenants.rows["code"][whose.tenants[new]]
            of = self.store.admit(whose.series[new], owners)
            self._series.settle(of, self.store.settings.table)

    def settled(self, r: int, of: Ints) -> None:
        for s in self._series.settle(of, self.store.settings.table).tolist():
            self.store.mark(int(self._series.rows["code"][s]))

    def loaded(self) -> None:
        series = self._series.rows
        of = np.flatnonzero((series["code"] >= 0) & (series["b_used"] == 0))
        self._series.settle(of, self.store.settings.table)
