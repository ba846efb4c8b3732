"""A worker's fold of record batches, of which nothing is sent: what counts is the state."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.engine.batches import RawBatch
from agents.engine.dead_letters import DeadLetters
from agents.engine.digest import rows_of
from agents.engine.errors import Stopped
from agents.engine.inbox import Inbox
from agents.engine.plan import Plan
from agents.engine.processor import Control, Fold, Place, Processor
from agents.engine.recovery import CHUNK, begun
from agents.engine.transport import Fetched
from agents.engine.work import PositionMaker, UnknownSchema, Unsettled, Worker
from agents.engine.workspace import Outcome, Workspace, empty_rows
from agents.history.epochs import Epoch, Stretch
from agents.history.errors import HistoryError
from agents.history.folded import Folded, folded
from agents.history.framed import Framed
from agents.history.outputs import Written, written
from agents.history.pick import Sample, pick, pick_some
from agents.history.rows import Rows, only
from agents.kit.schema import SETTINGS
from agents.kit.setting import EVERYONE, find, parse
from topics import codec
from topics.schemas import schemas

Changes = Mapping[str, str]  # NAME of a setting -> its value as text


class Refold(Worker):
    """Folds the records before `end`; with a tenant, or a sample of some, only theirs and those for
    everybody.

    `heard` and `framed`, where there is one, get what it would send.
    """

    def __init__(
        self, plan: Plan, place: Place, fold: Fold, skips: Mapping[int, str], tenant: str = ""
    ) -> None:
        super().__init__(plan, place, fold, skips)
        self._tenant = np.frombuffer(bytearray(tenant.encode()), np.uint8)
        self.sample: Sample | None = None
        self.end = 0
        self.folded = 0  # records
        self.heard: list[Written] | None = None
        self.framed: Framed | None = None
        self.changes: Changes = {}
        self.look = False  # whether `last` is wanted
        self.last: Folded | None = None  # what became of the last record

    def fold_batches(self, ws: Workspace, batches: list[RawBatch], first: int) -> int:
        """Fold them from offset `first` on, or a part of them; returns the offset behind it.

        Raises what `Worker.run` does, and RegistryAway.
        """
        try:
            outcome = self.run(ws, batches, first, _no_position)
        except Unsettled as error:  # nothing was folded
            schemas().settle(error.ids)
            outcome = self.run(ws, batches, first, _no_position)
        self.folded += outcome.results["folded"]
        return outcome.next_offset

    def _parse(
        self, ws: Workspace, batches: list[RawBatch], first: int, letters: DeadLetters
    ) -> int:
        done = super()._parse(ws, batches, first, letters)
        if done > self.end:
            ws.n, done = int(np.searchsorted(ws.offs[: ws.n], self.end)), self.end
        if self._tenant.shape[0]:
            ws.n = pick(
                ws.buf.data, ws.n, self._tenant, self.plan.reserved,
                ws.offs, ws.ms, ws.kpos, ws.klen, ws.vpos, ws.vlen,
            )  # fmt: skip
        elif self.sample is not None:
            ws.n = pick_some(
                ws.buf.data, ws.n, self.sample.names, self.sample.ends, self.plan.reserved,
                ws.offs, ws.ms, ws.kpos, ws.klen, ws.vpos, ws.vlen,
            )  # fmt: skip
        return done

    def _hand_on(
        self, ws: Workspace, letters: DeadLetters, outcome: Outcome, position: PositionMaker
    ) -> None:
        """Nothing; but a fold that isn't asked for what changed never gives memory back."""
        if self.heard is not None:
            self.heard += written(ws, self.plan, self.fold, self.place)
        if self.framed is not None:
            self.framed.take_in(ws, self.fold, self.place)
        self.last = folded(self.plan, self.place, ws, letters, self.fold) if self.look else None
        empty_rows(ws.rows)
        self.fold.changed(ws.rows)

    def _obey(self, control: Control) -> str | None:
        return super()._obey(overruled(self.plan.processor, control, self.changes))


def overruled(processor: Processor, control: Control, changes: Changes) -> Control:
    """A setting that is changed keeps the changed value, whatever else it is set to."""
    text = changes.get(control.setting)
    if control.kind != "setting" or text is None or not control.value:
        return control
    try:
        parse(processor.settings, control.setting, control.value)
    except ValueError:
        return control  # refused, as it was
    return replace(control, value=text)


def overruled_rows(processor: Processor, rows: Rows, changes: Changes) -> Rows:
    """Rows in which whoever has values of its own for what is changed has the changed ones."""
    found = dict(rows)
    for key, value in rows.items() if changes else ():
        name, row = codec.decode_ours(value)
        own = row.get(SETTINGS, {})
        if mine := own.keys() & changes.keys():
            for one in mine:
                setting = find(processor.settings, one)[0]
                new = setting.parse(changes[one])
                own[one] = str(new) if isinstance(own[one], str) else setting.number(new)
            found[key] = codec.encode(name, row)
    return found


def _passed(batch: RawBatch, at: int) -> int:
    """How many of a batch's records lie before an offset; where some are gone, about so many."""
    if at >= batch.next_offset:
        return batch.count
    return min(batch.count, max(0, at - batch.base_offset))


def _no_position(_: int) -> bytes:
    return b""


def fold_of(plan: Plan, place: Place, defaults: Mapping[str, str], rows: Rows) -> Fold:
    """A fold made with these values, which holds these rows. UnknownVersion."""
    loader = begun(plan, place, defaults)
    keys = list(rows)
    for lo in range(0, len(keys), CHUNK):
        part = keys[lo : lo + CHUNK]
        loader.load(part, [rows[key] for key in part], np.zeros(len(part), np.uint8))
    return loader.fold


class Refolding:
    """A partition's fold through its epochs. Not for two threads at a time."""

    def __init__(
        self, plan: Plan, place: Place, skips: Mapping[int, str], tenant: str,
        told: Callable[[], None], changes: Changes | None = None,
    ) -> None:  # fmt: skip
        """`told` is called whenever it has got on. `changes`: settings that are other than they
        were, whoever set them, by NAME.
        """
        self.where = f"{plan.processor.name} at {plan.source}/{place.partition}"
        self.at = -1  # all before this offset is folded
        self.number = 0  # of the epoch that the fold was made with
        self.records = 0  # read so far
        self.sample: Sample | None = None  # tenants who alone are folded; set it before `enter`
        self.most = 0  # offsets before `told` is called again; 0: as many as a workspace takes
        self.values: Mapping[str, str] = {}  # that the fold was made with
        self._plan, self._place, self._skips, self._tenant = plan, place, skips, tenant
        self._told, self._changes = told, changes or {}
        self._inbox = Inbox()
        self._space: Workspace | None = None
        self._look = False
        self.last: Folded | None = None
        self._worker: Refold | None = None

    def look_at(self, stretches: Sequence[Stretch], reading: Iterator[Fetched]) -> Folded | None:
        """Fold the one record that is left, and tell what became of it; None: there stands none."""
        self._look, self.last = True, None
        try:
            self.go_through(stretches, reading)
        finally:
            self._look = False
        return self.last

    def enter(self, epoch: Epoch, rows: Rows) -> None:
        """Go on with a fold made as in this epoch, which holds these rows. HistoryError."""
        before, self._worker = self._worker, None  # its memory isn't needed any more
        heard, folded = (None, 0) if before is None else (before.heard, before.folded)
        framed = None if before is None else before.framed
        del before
        try:
            self.values = {**epoch["settings"], **self._changes}
            rows = overruled_rows(self._plan.processor, rows, self._changes)
            fold = fold_of(self._plan, self._place, self.values, rows)
        except (Stopped, ValueError) as error:
            raise HistoryError(f"{self.where}: epoch {epoch['number']}: {error}") from error
        self._worker = Refold(self._plan, self._place, fold, self._skips, self._tenant)
        self._worker.changes, self._worker.sample = self._changes, self.sample
        self._worker.heard, self._worker.folded, self._worker.framed = heard, folded, framed
        self.number = int(epoch["number"])

    def go_through(self, stretches: Sequence[Stretch], reading: Iterator[Fetched]) -> None:
        """Fold what is read from here on, each stretch in its epoch. HistoryError."""
        self.begin()
        end = max(one.end for one in stretches)
        while not self.go_on(stretches, end):
            self.take_in(next(reading))

    def begin(self) -> None:
        """What is taken in comes from here on."""
        self._inbox.begin(self.at, self.at)

    def take_in(self, fetched: Fetched) -> None:
        """What was read."""
        self._inbox.take_in(fetched)

    def go_on(self, stretches: Sequence[Stretch], end: int) -> bool:
        """Fold what was taken in, each stretch in its epoch, before `end`; whether it is there.

        HistoryError.
        """
        for stretch in stretches:
            until = min(stretch.end, end)
            if self.at < until and stretch.epoch["number"] != self.number:
                self.enter(stretch.epoch, self.all())
            while self.at < until:
                if self._inbox.batches:
                    first = max(self.at, self._inbox.batches[0].base_offset)
                    self._fold(self._inbox, min(until, first + self.most) if self.most else until)
                elif self._inbox.seen >= until:
                    self.at = until
                else:
                    return False
                self._told()
        return True

    def heard(self) -> list[Written]:
        """What would have been sent since the last call; from the first call on it is kept."""
        assert self._worker is not None
        found, self._worker.heard = self._worker.heard, []
        return found or []

    def frame(self, framed: Framed) -> None:
        """Give what would be sent from here on to `framed`, too."""
        assert self._worker is not None
        self._worker.framed = framed

    @property
    def folded(self) -> int:
        """Records folded so far."""
        return 0 if self._worker is None else self._worker.folded

    def _fold(self, inbox: Inbox, end: int) -> None:
        """Fold what waits, up to a workspace's size."""
        assert self._worker is not None
        self._space = self._space or Workspace(self._plan)
        self._worker.end, self._worker.look = end, self._look
        most = self._plan.batch_max
        batches = inbox.take(min(most, self.most) if self.most else most)
        before = self.at
        try:
            self.at = self._worker.fold_batches(self._space, batches, before)
        except Stopped as error:
            text = getattr(error, "text", str(error))
            raise HistoryError(f"{self.where}: at or behind offset {before}: {text}") from error
        except UnknownSchema as error:
            text = f"unknown schema at {error}: a newer version wrote it?"
            raise HistoryError(f"{self.where}: {text}") from error
        if self.at <= before:
            raise RuntimeError(f"{self.where} doesn't get beyond {before}")
        self.last = self._worker.last
        self.records += sum(_passed(one, self.at) - _passed(one, before) for one in batches)
        inbox.put_back(batches, self.at)

    def all(self) -> Rows:
        """All rows as they are now: with a tenant, those of everybody too."""
        assert self._worker is not None
        return rows_of(self._plan, self._worker.fold)

    def rows(self) -> Rows:
        """The rows as they are now: the tenant's, if there is one."""
        return only(self.all(), self._tenant)

    def everyone(self) -> bytes | None:
        """The row of everybody's settings."""
        return self.all().get(EVERYONE.encode())
