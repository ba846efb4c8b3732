"""One partition's integrator: predictor_update records in, one global_frame each out.

A frame carries the weights and the last raw errors of the fresh domains, in slot order. Its
config_version counts the settings changed so far, the tenant's own and the partition's. `veto` says
when a policy is asked and what its answers do, `drift` when there are events besides.
"""

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from agents.engine.derived_ids import ID_BYTES_MAX
from agents.engine.processor import (
    RATIONALE_BYTES_MAX,
    Batch,
    Context,
    Control,
    Output,
    Question,
    StateRows,
)
from agents.integrator import drift, events, veto
from agents.integrator import rows as form
from agents.integrator.loading import load
from agents.integrator.loop import (
    ASK,
    DRIFTED,
    Halt,
    Into,
    Sink,
    Source,
    Used,
    finish,
    fold,
    into,
)
from agents.integrator.round import Round
from agents.integrator.settings import FORGET, SETTINGS
from agents.integrator.state import ALL, CHANGES, DIRTY, SLOTS, TENANTS, Asked, State, touch
from agents.integrator.table import Table
from agents.kit.tenant_settings import number_of
from topics.columns import Columns

TENANT_NAME = re.compile(r"\*|[A-Za-z0-9._-]{1,128}")

Ints = NDArray[np.int64]


class Integrator:
    """The Fold of the integrator; also Asking and Counting."""

    def __init__(self, context: Context) -> None:
        self.state = State(Table(context.defaults))
        self.policy = context.policy
        self.prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self.round = Round(
            np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64), *np.zeros((6, SLOTS))
        )
        self.halt = Halt(*np.zeros((5, 1), np.int64), *np.zeros((2, 1)))
        self.codes = np.zeros((2, 0), np.int64)
        self.tally = events.Tally()
        self._into: Into | None = None
        self._deadline: int | None = None
        self._settled = True  # nobody holds spans into the names: a batch is done

    @property
    def names(self) -> NDArray[np.uint8]:
        """The bytes that SRC_NAMES spans point into, as they are now."""
        return self.state.names.pool

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0; one frame each, and what drifts."""
        out, state = outputs[0], self.state
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
        asks, remote = self.policy is not None, self.policy is not None and self.policy.remote
        before = out.n
        while lo < hi:
            left = hi - lo
            out.reserve(left, max(6 * left, 2 * SLOTS), left * ID_BYTES_MAX + RATIONALE_BYTES_MAX)
            state.grow()
            lo, used, why = fold(
                state.arrays(), given, self._sink(out), f, self.round, self.halt, lo, hi,
                Used(out.n, out.columns.used, out.scratch.used), asks, remote,
            )  # fmt: skip
            out.n, out.columns.used, out.scratch.used = used
            if why == ASK:
                why = self._ask(batch, given, lo, f, out)
                lo += 1
            if why == DRIFTED:
                self._drifted(lo - 1, batch, f, outputs)
        self.tally.frames += out.n - before
        pos, size = (
            at[f.leader, before : out.n] for at in (out.columns.cols.pos, out.columns.cols.len)
        )
        self.tally.lead(self.names, pos, size)

    def _sink(self, out: Output) -> Sink:
        return Sink(out.columns.cols, out.cause, out.scratch.data, self.prefix)

    def _ask(self, batch: Batch, given: Source, i: int, f: Into, out: Output) -> int:
        """Ask about the candidate of record i, and write its frame; returns as `finish` does."""
        assert self.policy is not None
        state, halt = self.state, self.halt
        r, n = int(halt.tenant[0]), int(halt.fresh[0])
        cells = state.cells["domain"][self.round.cell[:n]]
        names = [state.names.name(int(code)).decode() for code in cells]
        weights = dict(zip(names, self.round.p[:n].tolist(), strict=True))
        candidate = names[int(halt.chosen[0])]
        tenant = state.names.name(int(state.tenants["name"][r]))
        if self.policy.remote:
            told = veto.Verdict(veto.PENDING, None, False)
            offset = int(batch.offsets[i])
            state.asked[tenant] = Asked(offset, candidate, weights)
            state.tenants["question"][r] = offset
        else:
            decision = self.policy.decide(tenant.decode(), candidate, weights)
            told = veto.verdict(decision, candidate, weights, open_=self.policy.fail_open)
            veto.apply(state, r, told, candidate, int(given.cols.i[f.update_ts, i]))
        if told.leader is not None:
            halt.leader[0] = names.index(told.leader)
        self.tally.veto(told.veto)
        rationale = veto.bounded(told.rationale)
        text, o = out.scratch.append(rationale), out.n
        used, why = finish(
            state.arrays(), given, self._sink(out), f, self.round, halt, i,
            Used(out.n, out.columns.used, out.scratch.used),
        )  # fmt: skip
        out.n, out.columns.used, out.scratch.used = used
        cols = out.columns.cols
        cols.i[f.veto, o] = told.veto
        cols.pos[f.rationale, o], cols.len[f.rationale, o] = text, len(rationale)
        return int(why)

    def _drifted(self, i: int, batch: Batch, f: Into, outputs: tuple[Output, ...]) -> None:
        """Write what follows from the drift that record i showed."""
        cols = batch.columns.cols
        pos, size = cols.pos[f.update_observation_id, i], cols.len[f.update_observation_id, i]
        place = self.prefix.tobytes() + str(int(batch.offsets[i])).encode()
        seen = events.Seen(
            int(cols.i[f.update_ts, i]), place.decode(),
            batch.buf[pos : pos + size].tobytes().decode(), i,
        )  # fmt: skip
        r, kind = int(self.halt.tenant[0]), int(self.halt.kind[0])
        if events.write(self.state, r, kind, seen, outputs[1], outputs[2]):
            self.tally.rollbacks += 1
        self.tally.drifts[drift.KINDS[kind]] += 1

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
        if control.kind == "answer":
            return self._answer(control)
        if control.kind != "setting":
            return f"no control {control.kind[:40]!r} is known here"
        if not TENANT_NAME.fullmatch(control.tenant):
            return "tenant: '*', or 1-128 of [A-Za-z0-9._-]"
        try:
            value = number_of(SETTINGS, control.setting, control.value)
        except ValueError as error:
            return str(error)
        k = list(SETTINGS).index(control.setting)
        self._set(control.tenant.encode(), k, value, control.log_ms)
        return None

    def _set(self, name: bytes, k: int, value: float, log_ms: int) -> None:
        """Give a tenant a value of its own (NaN: take it back). Counts as a sign of life."""
        state, table = self.state, self.state.table
        r = state.seat(name)
        tenant = state.tenants[r]
        if tenant["settings"] == 0 and name != ALL:
            tenant["settings"] = table.add()
        row = int(tenant["settings"])
        table.put(row, k, value)
        if row > 0:
            drift.start_anew(tenant)
            if tenant["frames"] == 0:
                table.settle(row)
        tenant["version"] += 1
        tenant["touched"] = max(int(tenant["touched"]), log_ms)
        touch(state.arrays(), int(tenant["name"]))
        self._deadline = None

    def _answer(self, control: Control) -> str | None:
        """Let a remote policy's answer act, if the tenant waits for it. It is no sign of life."""
        try:
            name, decision = veto.read_answer(control.setting, control.value)
        except ValueError as error:
            return str(error)
        state, tenant = self.state, control.tenant.encode()
        asked = state.asked.get(tenant)
        if asked is None or name != self._place(asked.offset):
            self.tally.ignored += 1
            return None
        r = int(state.row[state.names.code(tenant)])
        open_ = self.policy is not None and self.policy.fail_open
        self.tally.veto(veto.answer(state, r, asked, decision, open_=open_))
        del state.asked[tenant]
        touch(state.arrays(), int(state.tenants["name"][r]))
        return None

    def _place(self, offset: int) -> str:
        """The frame_id of the frame that the record at `offset` made."""
        return f"{self.prefix.tobytes().decode()}{offset}"

    def questions(self) -> list[Question]:
        """What a remote policy hasn't answered yet, oldest first; nothing if there is none."""
        if not self.state.asked or self.policy is None or not self.policy.remote:
            return []
        return [
            Question(self._place(asked.offset), tenant.decode(), asked.leader, asked.weights)
            for tenant, asked in sorted(self.state.asked.items(), key=lambda item: item[1].offset)
        ]

    def counted(self) -> Mapping[str, int]:
        """See `events.TALLIES`; the counts start again."""
        self.tally.changes = int(self.state.counts[CHANGES])
        self.state.counts[CHANGES] = 0
        return self.tally.take()

    def _tick(self, ts: int) -> None:
        """Forget the tenants whose time has come by the wall time `ts`, in microseconds."""
        due = self._due()
        rows = np.flatnonzero(due <= ts)
        if rows.shape[0]:
            self.state.forget(rows)
            self.state.drop_answered()
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
        load(self.state, rows, lo, hi, buf, key_pos, key_len, gone)
        self._deadline = None
