"""One partition's segmentation: global_frame records in, a segment_boundary for each segment's end.

A frame feeds the series of the domain that moved with that domain's error, and the tenant's time
under its leader. A frame without a finite error of its domain feeds the latter only.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import OWN_REASONS, Batch, Context, Control, Output, StateRows, Tally
from agents.kit.setting import EVERYONE
from agents.kit.tenant_settings import TenantSettings
from agents.segmentation import rows as form
from agents.segmentation import taking
from agents.segmentation.detect import EVIDENCE, found
from agents.segmentation.frames import (
    DONE,
    NEED_ROOM,
    NEED_SERIES,
    NEED_TENANT,
    Into,
    Sink,
    Source,
    fold,
    into,
    join,
)
from agents.segmentation.rule import Ints, work
from agents.segmentation.settings import DOMAINS_MAX, FORGET_AFTER, SETTINGS
from agents.segmentation.state import State
from topics.columns import Columns

REASONS = {
    "too_many_domains": f"the tenant has as many domains as its setting domains_max allows "
    f"({SETTINGS['domains_max'].default} unless it is set): further ones are refused"
}
TOO_MANY = OWN_REASONS

BOUNDARIES = "soma_boundaries_total"
TALLIES = (Tally(BOUNDARIES, "Segment boundaries written.", "evidence"),)

ROWS, TEXT = 64, 16_384  # room for boundaries, and bytes of their ids, that is made at a time


class Segmentation:
    """The Fold of segmentation."""

    def __init__(self, context: Context) -> None:
        self.state = State(TenantSettings(SETTINGS, context.defaults))
        self._work = work()
        self._found = found()
        self._codes = np.zeros((5, 0), np.int64)  # tenant, series, leader; key's place and length
        self._keys = np.zeros(0, np.uint8)
        self._into: Into | None = None
        self._written = np.zeros(len(EVIDENCE), np.int64)  # boundaries, since `counted`
        self._deadline: int | None = None
        self._known = False  # whether `_deadline` holds

    @property
    def names(self) -> NDArray[np.uint8]:
        """The bytes that SRC_NAMES spans point into, as they are now."""
        return self.state.names.pool

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0."""
        (out,) = outputs
        state = self.state
        state.tidy()
        f = self._into = self._into or into(batch.columns.layout, out.columns.layout)
        self._intern(batch, f, lo, hi)
        tenants, series, leaders = self._codes[:3]
        source = Source(
            batch.buf, batch.columns.cols, tenants, series, leaders, batch.log_ms, batch.status
        )
        text, before = TEXT, out.n
        out.reserve(ROWS, 0, text)
        while lo < hi:
            sink = Sink(out.columns.cols, out.cause, out.scratch.data)
            lo, out.n, out.scratch.used, why = fold(
                state.arrays(), source, sink, f, self._work, self._found, lo, hi, out.n,
                out.scratch.used,
            )  # fmt: skip
            if why == NEED_TENANT:
                state.seat(int(tenants[lo]))
                self._known = False
            elif why == NEED_SERIES:
                self._admit(batch, lo)
            elif why == NEED_ROOM:
                text *= 2  # one record's ids may be longer than that
                out.reserve(ROWS, 0, text)
            else:
                assert why == DONE
        shown = out.columns.cols.i[f.evidence, before : out.n]
        self._written += np.bincount(shown, minlength=len(EVIDENCE))

    def counted(self) -> Mapping[str, int]:
        """Boundaries written since the last call, by what showed them."""
        counts = {f"{BOUNDARIES}:{EVIDENCE[k]}": int(n) for k, n in enumerate(self._written) if n}
        self._written[:] = 0
        return counts

    def _admit(self, batch: Batch, i: int) -> None:
        """Make the series of record i, or refuse the record."""
        state = self.state
        tenant = state.tenants[state.tenant_of[self._codes[0, i]]]
        if tenant["domains"] >= state.settings.table[tenant["settings"], DOMAINS_MAX]:
            batch.status[i] = TOO_MANY
        else:
            state.admit(int(self._codes[1, i]))
            self._known = False

    def _intern(self, batch: Batch, f: Into, lo: int, hi: int) -> None:
        """The codes of tenants, series and leaders of records lo..hi-1."""
        if self._codes.shape[1] < hi:
            self._codes = np.zeros((5, max(hi, 2 * self._codes.shape[1])), np.int64)
        cols, names, status = batch.columns.cols, self.state.names, batch.status
        tenants, series, leaders, pos, size = self._codes
        need = hi - lo + int(cols.len[f.of_tenant, lo:hi][status[lo:hi] == 0].sum())
        need += int(cols.len[f.of_domain, lo:hi][status[lo:hi] == 0].sum())
        if self._keys.shape[0] < need:
            self._keys = np.zeros(2 * need, np.uint8)
        if not join(batch.buf, cols, status, f, lo, hi, self._keys, pos, size):
            raise ValueError("a record of the batch points outside the batch's buffer")
        names.intern(
            batch.buf, cols.pos[f.of_tenant], cols.len[f.of_tenant], status, tenants, lo, hi
        )
        names.intern(self._keys, pos, size, status, series, lo, hi)
        names.intern(
            batch.buf, cols.pos[f.of_leader], cols.len[f.of_leader], status, leaders, lo, hi
        )
        self.state.cover()

    def control(self, control: Control) -> str | None:
        """Apply a setting or a tick; returns None, or why it is refused."""
        if control.kind == "tick":
            self._tick(control.ts)
            return None
        if control.kind != "setting":
            return f"no control {control.kind[:40]!r} is known here"
        try:
            self.state.settings.change(control.tenant, control.setting, control.value)
        except ValueError as error:
            return str(error)
        state = self.state
        code = state.code(control.tenant.encode())
        if control.tenant != EVERYONE:
            seat = state.seat(code)  # which may make the array anew
            tenant = state.tenants[seat]
            tenant["touched"] = max(int(tenant["touched"]), control.log_ms)
        state.resettle(control.tenant)
        state.touch(code)
        self._known = False
        return None

    def _tick(self, ts: int) -> None:
        """Forget the series and tenants whose time has come by the wall time `ts`, in µs."""
        state = self.state
        for mine, drop in ((self._series_due(), state.drop_series), (None, state.drop_tenant)):
            due, codes = mine if mine is not None else self._tenants_due()
            gone = [int(code) for code in codes[due <= ts]]
            for code in sorted(gone, key=state.names.name):
                drop(code)
                state.touch(code)
        self._known = False

    def _series_due(self) -> tuple[NDArray[np.float64], Ints]:
        """When each series is to be forgotten, in microseconds; and their names."""
        series = self.state.series
        series = series[series["alive"] != 0]
        after = self.state.settings.table[series["settings"], FORGET_AFTER]
        return series["touched"] * 1e3 + after * 1e6, series["name"].astype(np.int64)

    def _tenants_due(self) -> tuple[NDArray[np.float64], Ints]:
        """Likewise for the tenants without series, which settings of their own keep."""
        state = self.state
        tenants = state.tenants
        tenants = tenants[(tenants["alive"] != 0) & (tenants["domains"] == 0)]
        after = state.settings.table[tenants["settings"], FORGET_AFTER]
        due = tenants["touched"] * 1e3 + after * 1e6
        codes = tenants["name"].astype(np.int64)
        for k, code in enumerate(codes):
            if state.settings.own(state.text(int(code))):
                due[k] = np.inf
        return due, codes

    def deadline(self) -> int | None:
        """Wall time in microseconds before which no tick would change anything; None: none would.

        It may be early (frames since put it off), never late while the broker's clock goes on.
        """
        if not self._known:
            due = np.concatenate((self._series_due()[0], self._tenants_due()[0]))
            due = due[np.isfinite(due)]
            self._deadline = int(np.ceil(due.min())) if due.shape[0] else None
            self._known = True
        return self._deadline

    def tenants(self) -> int:
        """How many series (a domain of a tenant) the state holds."""
        return self.state.living

    def changed(self, rows: StateRows) -> None:
        """Write the rows changed since the last call, in the order of their first change."""
        state = self.state
        codes = state.dirty[: state.counts[0]].copy()
        form.write(state, codes, rows)
        state.flag[codes] = 0
        state.counts[0] = 0

    def rows_all(self, rows: StateRows) -> None:
        """Write every row of the state, in any order."""
        state = self.state
        series = state.series
        codes = [*state.tenants["name"][state.tenants["alive"] != 0]]
        codes += [*series["name"][series["alive"] != 0]]
        if state.settings.own(EVERYONE):
            codes.append(state.code(EVERYONE.encode()))
        form.write(state, np.array(codes, np.int64), rows)

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
        taking.load(self.state, rows, lo, hi, buf, key_pos, key_len, gone)
        self._known = False
