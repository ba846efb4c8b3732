"""One partition's integrator: predictor_update records in, one global_frame each out.

A frame carries the weights and the last raw errors of the fresh domains, in slot order. Its
config_version counts the settings changed so far, the tenant's own and the partition's. `veto` says
when a policy is asked and what its answers do, `drift` when there are events besides.
"""

from collections.abc import Mapping

import numpy as np

from agents.engine.derived_ids import ID_BYTES_MAX
from agents.engine.processor import (
    RATIONALE_BYTES_MAX,
    Batch,
    Context,
    Control,
    Output,
    Question,
)  # fmt: skip
from agents.integrator import drift, events, veto
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
    inspect,
    into,
)
from agents.integrator.round import Round
from agents.integrator.rows import Asked, State
from agents.integrator.state import SLOTS
from agents.kit.columnar import ColumnarFold
from agents.kit.packing import Ints
from agents.policy.policies import short


class IntegratorFold(ColumnarFold):
    """The integrator's `processor.Fold`; also Asking and Counting."""

    def __init__(self, context: Context) -> None:
        self.state = State(context.defaults)
        super().__init__(self.state)
        self.policy = context.policy
        self.prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self.round = Round(
            np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64), *np.zeros((6, SLOTS))
        )
        self.halt = Halt(*np.zeros((5, 1), np.int64), *np.zeros((2, 1)))
        self.found = np.zeros((2, 0), np.int64)  # per record: its tenant's row, its domain's code
        self.tally = events.Tally()
        self._into: Into | None = None
        self._own: dict[str, float] = {}  # what a tenant had set, while it sets more

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0; one frame each, and what drifts."""
        out, state = outputs[0], self.state
        state.tidy()
        f = self._into = self._into or into(batch.columns.layout, out.columns.layout)
        given = self._source(batch, f, lo, hi)
        asks, remote = self.policy is not None, self.policy is not None and self.policy.remote
        before = out.n
        while lo < hi:
            left = hi - lo
            out.reserve(left, max(6 * left, 2 * SLOTS), left * ID_BYTES_MAX + RATIONALE_BYTES_MAX)
            state.table.reserve(SLOTS)
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

    def _source(self, batch: Batch, f: Into, lo: int, hi: int) -> Source:
        """What kernels take of a batch; tenants that have no row get one."""
        if self.found.shape[1] < hi:
            self.found = np.zeros((2, max(hi, 2 * self.found.shape[1])), np.int64)
        (tenants, domains), cols, state = self.found, batch.columns.cols, self.state
        given = Source(batch.buf, cols, tenants, domains, batch.offsets, batch.log_ms, batch.status)
        inspect(given, f, lo, hi)
        pos, size = cols.pos[f.update_tenant], cols.len[f.update_tenant]
        state.find_tenants(batch.buf, pos, size, batch.status, tenants, lo, hi)
        pos, size = cols.pos[f.update_domain], cols.len[f.update_domain]
        state.names.intern(batch.buf, pos, size, batch.status, domains, lo, hi)
        state.cover()
        return given

    def _sink(self, out: Output) -> Sink:
        return Sink(out.columns.cols, out.cause, out.scratch.data, self.prefix)

    def _ask(self, batch: Batch, given: Source, i: int, f: Into, out: Output) -> int:
        """Ask about the candidate of record i, and write its frame; returns as `finish` does."""
        assert self.policy is not None
        state, halt = self.state, self.halt
        r, n = int(halt.tenant[0]), int(halt.fresh[0])
        cells = state.table.pool.data["domain"][self.round.cell[:n]]
        names = [state.text(int(code)) for code in cells]
        weights = dict(zip(names, self.round.p[:n].tolist(), strict=True))
        candidate = names[int(halt.chosen[0])]
        code = int(state.table.rows["code"][r])
        if self.policy.remote:
            told = veto.Verdict(veto.PENDING, None, False)
            offset = int(batch.offsets[i])
            state.table.asked[code] = Asked(offset, candidate, weights)
            state.table.rows["question"][r] = offset
        else:
            decision = self.policy.decide(state.text(code), candidate, weights)
            told = veto.verdict(decision, candidate, weights, open_=self.policy.fail_open)
            veto.apply(state, r, told, candidate, int(given.cols.i[f.update_ts, i]))
        if told.leader is not None:
            halt.leader[0] = names.index(told.leader)
        self.tally.veto(told.veto)
        rationale = short(told.rationale).encode()
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

    def control(self, control: Control) -> str | None:
        """Apply a setting, a tick or an answer; returns None, or why it is refused."""
        self._own = self.state.settings.own(control.tenant)
        return super().control(control)

    def settled(self, r: int, of: Ints) -> None:
        """Count a change of settings; what is judged from now on is what the new ones do."""
        tenant = self.state.table.rows[r]
        tenant["config_version"] += 1
        if r > 0:
            drift.start_anew(tenant)
            if tenant["frames"] > 0:
                self.state.table.unsettle(r, self._own)

    def other_control(self, control: Control) -> str | None:
        """Let a remote policy's answer act, if the tenant waits for it. It is no sign of life."""
        if control.kind != "answer":
            return super().other_control(control)
        try:
            name, decision = veto.read_answer(control.setting, control.value)
        except ValueError as error:
            return str(error)
        state = self.state
        code = state.names.code(control.tenant.encode(), add=False)
        asked = state.table.asked.get(code)
        if asked is None or name != self._place(asked.offset):
            self.tally.ignored += 1
            return None
        r = int(state.table.of[code])
        open_ = self.policy is not None and self.policy.fail_open
        self.tally.veto(veto.answer(state, r, asked, decision, open_=open_))
        del state.table.asked[code]
        state.mark(code)
        return None

    def _place(self, offset: int) -> str:
        """The frame_id of the frame that the record at `offset` made."""
        return f"{self.prefix.tobytes().decode()}{offset}"

    def questions(self) -> list[Question]:
        """What a remote policy hasn't answered yet, oldest first; nothing if there is none."""
        asked = self.state.table.asked
        if not asked or self.policy is None or not self.policy.remote:
            return []
        return [
            Question(self._place(one.offset), self.state.text(code), one.leader, one.weights)
            for code, one in sorted(asked.items(), key=lambda item: item[1].offset)
        ]

    def counted(self) -> Mapping[str, int]:
        """See `events.TALLIES`; the counts start again."""
        self.tally.changes = int(self.state.changes[0])
        self.state.changes[0] = 0
        return self.tally.take()
