"""One partition's integrator: predictor_update records in, one global_frame each out.

A frame carries the weights and the last raw errors of the fresh domains, in slot order. Its
config_version is the version of the last change of settings, the tenant's own or everyone's, as the
processor control gave it; one that was written past control has one more than all that the tenant
has seen. Its policy is the digest of the policy that may veto: what decided can be found again.
`veto` says when a policy is asked and what its answers do, `drift` when there are events besides.
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
    Policy,
    Question,
)
from agents.integrator import drift, events, loop, veto
from agents.integrator.loop import UPDATE, Halt, Used
from agents.integrator.round import Round
from agents.integrator.rows import Asked, State
from agents.integrator.settings import LEARNT
from agents.integrator.state import SLOTS
from agents.kit.batches import Source, sink_of, source_of
from agents.kit.columnar import ColumnarFold
from agents.kit.packing import Bytes, Ints
from agents.kit.setting import AT
from agents.policy import bundle
from agents.policy.policies import short


class IntegratorFold(ColumnarFold):
    """The integrator's `processor.Fold`; also Asking and Counting."""

    def __init__(self, context: Context) -> None:
        self.state = State(context.defaults, context.policy)
        super().__init__(self.state)
        self.policy = context.policy
        self.prefix = np.frombuffer(bytearray(context.place.prefix), np.uint8)
        self.round = Round(
            np.zeros(SLOTS, np.int64), np.zeros(SLOTS, np.int64), *np.zeros((7, SLOTS))
        )
        self._own: dict[str, float] = {}  # what a tenant had set, while it sets more
        self._version = 0  # of that change
        self._set = ""  # the setting, without the domain
        self._loaded = False  # rows came whose domains haven't looked up their priors

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Fold records lo..hi-1 whose status is 0; one frame each, and what drifts."""
        out, state, source = outputs[0], self.state, source_of(batch)
        state.tidy()
        self._look_up()
        loop.inspect(source, lo, hi)
        tenants = state.tenants_of(batch, lo, hi)
        domains = state.codes_of(batch, "domain", lo, hi)
        priors = state.priors_of(tenants, domains, lo, hi)
        policy, own = state.policies.default, state.own_policies()
        asks, remote = policy is not None, policy is not None and policy.remote
        before = out.n
        while lo < hi:
            left = hi - lo
            out.reserve(left, max(6 * left, 2 * SLOTS), left * ID_BYTES_MAX + RATIONALE_BYTES_MAX)
            state.table.reserve(SLOTS)
            lo, used, why, halt = loop.fold(
                state.arrays(), source, tenants, domains, priors, sink_of(out), self.prefix,
                self.round, lo, hi, Used(out.n, out.columns.used, out.scratch.used), asks, remote,
                own,
            )  # fmt: skip
            out.n, out.columns.used, out.scratch.used = used
            kind = halt.kind
            if why == loop.ASK:
                kind = self._ask(source, lo, halt, out)
                lo += 1
            if kind != drift.NONE:
                self._drifted(source, lo - 1, halt.tenant, kind, outputs)
        self.counts[events.FRAMES] += out.n - before
        self._name_policies(out, before, tenants, own)
        cols = out.columns.cols
        pos, size = (of[loop.FRAME.leader, before : out.n] for of in (cols.pos, cols.len))
        self.counts.update(events.led(self.names, pos, size))

    def _name_policies(self, out: Output, before: int, tenants: Ints, own: Bytes) -> None:
        """Write into frames from `before` on which policy may veto: one text for all that have
        none of their own.
        """
        policies, cols, slot = self.state.policies, out.columns.cols, loop.FRAME.policy

        def put(policy: Policy | None, at: slice | Ints) -> None:
            digest = policy.digest.encode() if policy is not None else b""
            cols.pos[slot, at], cols.len[slot, at] = out.scratch.append(digest), len(digest)

        put(policies.default, slice(before, out.n))
        if own.shape[0]:
            rows = tenants[out.cause[before : out.n]]
            for r in np.unique(rows[own[rows] != 0]).tolist():
                tenant = self.state.text(int(self.state.table.rows["code"][r]))
                put(policies.of(tenant), before + np.flatnonzero(rows == r))

    def _ask(self, source: Source, i: int, halt: Halt, out: Output) -> int:
        """Ask about the candidate of record i, and write its frame; returns the kind of drift."""
        state, r, n = self.state, halt.tenant, halt.fresh
        cells = state.table.pool.data["domain"][self.round.cell[:n]]
        names = [state.text(int(code)) for code in cells]
        weights = dict(zip(names, self.round.p[:n].tolist(), strict=True))
        candidate = names[halt.chosen]
        code = int(state.table.rows["code"][r])
        policy = state.policies.of(state.text(code))
        assert policy is not None
        if policy.remote:
            told = veto.Verdict(veto.PENDING, None, False)
            offset = int(source.offsets[i])
            state.table.asked[code] = Asked(offset, candidate, weights)
            state.table.rows["question"][r] = offset
        else:
            if state.table.asked.pop(code, None) is not None:  # of a remote one, before this
                state.table.rows["question"][r] = -1
            decision = policy.decide(state.text(code), candidate, weights)
            told = veto.verdict(decision, candidate, weights, open_=policy.fail_open)
            veto.apply(state, r, told, candidate, int(source.cols.i[UPDATE.ts, i]))
        if told.leader is not None:
            halt = halt._replace(leader=names.index(told.leader))
        self.counts[f"{events.VETOES}:{veto.WORDS[told.veto]}"] += 1
        rationale = short(told.rationale).encode()
        text, o, cols = out.scratch.append(rationale), out.n, out.columns.cols
        used, kind = loop.finish(
            state.arrays(), source, sink_of(out), self.prefix, self.round, i, halt,
            Used(out.n, out.columns.used, out.scratch.used),
        )  # fmt: skip
        out.n, out.columns.used, out.scratch.used = used
        cols.i[loop.FRAME.veto, o] = told.veto
        cols.pos[loop.FRAME.rationale, o], cols.len[loop.FRAME.rationale, o] = text, len(rationale)
        return int(kind)

    def _drifted(
        self, source: Source, i: int, r: int, kind: int, outputs: tuple[Output, ...]
    ) -> None:
        """Write what follows from the drift of a tenant that record i showed."""
        cols, slot = source.cols, UPDATE.observation_id
        observation = source.buf[cols.pos[slot, i] :][: cols.len[slot, i]].tobytes().decode()
        frame_id = self._place(int(source.offsets[i]))
        seen = events.Seen(int(cols.i[UPDATE.ts, i]), frame_id, observation, i)
        if events.write(self.state, r, kind, seen, outputs[1], outputs[2]):
            self.counts[events.ROLLBACKS] += 1
        self.counts[f"{events.DRIFTS}:{drift.KINDS[kind]}"] += 1

    def control(self, control: Control) -> str | None:
        """Apply a setting, a policy, a tick or an answer; None, or why it is refused."""
        self._look_up()
        self._own, self._version = self.state.settings.own(control.tenant), control.version
        self._set = control.setting.partition(AT)[0]
        if control.kind != "setting" or control.setting != bundle.SETTING:
            return super().control(control)
        self.state.tidy()
        try:
            self.state.change_policy(control.tenant, control.value, control.log_ms)
        except ValueError as error:
            return str(error)
        return None

    def settled(self, r: int, of: Ints) -> None:
        """Note a change's version; what is judged from now on is what the new settings do."""
        rows = self.state.table.rows
        tenant = rows[r]
        seen = rows["config_version"]
        before = seen[r] if self._version else max(seen[r], seen[0] if r > 0 else seen.max())
        tenant["config_version"] = max(before + 1, self._version)
        if self._set == "prior":
            self.state.look_up_priors([r] if r > 0 else self.state.with_domains())
        if r > 0 and self._set not in LEARNT:
            drift.start_anew(tenant)
            if tenant["frames"] > 0:
                self.state.table.unsettle(r, self._own)

    def loaded(self) -> None:
        """Domains look up their priors once all rows are there."""
        self._loaded = True

    def _look_up(self) -> None:
        if self._loaded and self.state.any_priors():
            self.state.look_up_priors(self.state.with_domains())
        self._loaded = False

    def slept(self, r: int) -> None:
        """What is judged from now on is what another temperature does."""
        drift.start_anew(self.state.table.rows[r])

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
            self.counts[events.IGNORED] += 1
            return None
        r = int(state.table.of[code])
        open_ = self.policy is not None and self.policy.fail_open
        told = veto.answer(state, r, asked, decision, open_=open_)
        self.counts[f"{events.VETOES}:{veto.WORDS[told]}"] += 1
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
        self.counts[events.CHANGES] += int(self.state.changes[0])
        self.state.changes[0] = 0
        return super().counted()
