"""A worker's fold of record batches, of which nothing is sent: what counts is the state."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from agents.engine.batches import RawBatch
from agents.engine.dead_letters import DeadLetters
from agents.engine.digest import rows_of
from agents.engine.errors import Stopped
from agents.engine.inbox import Inbox
from agents.engine.plan import Plan
from agents.engine.processor import Fold, Place
from agents.engine.recovery import CHUNK, Loader
from agents.engine.transport import Fetched
from agents.engine.work import PositionMaker, UnknownSchema, Worker
from agents.engine.workspace import Outcome, Workspace, empty_rows
from agents.history.epochs import Epoch, Stretch
from agents.history.errors import HistoryError
from agents.history.pick import pick
from agents.history.rows import Rows, only


class Refold(Worker):
    """Folds the records before `end`; with a tenant only its own and those for everybody."""

    def __init__(
        self, plan: Plan, place: Place, fold: Fold, skips: Mapping[int, str], tenant: str = ""
    ) -> None:
        super().__init__(plan, place, fold, skips)
        self._tenant = np.frombuffer(bytearray(tenant.encode()), np.uint8)
        self.end = 0

    def fold_batches(self, ws: Workspace, batches: list[RawBatch], first: int) -> int:
        """Fold them from offset `first` on, or a part of them; returns the offset behind it.

        Raises what `Worker.run` does.
        """
        return self.run(ws, batches, first, _no_position).next_offset

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
        return done

    def _hand_on(
        self, ws: Workspace, letters: DeadLetters, outcome: Outcome, position: PositionMaker
    ) -> None:
        """Nothing; but a fold that isn't asked for what changed never gives memory back."""
        empty_rows(ws.rows)
        self.fold.changed(ws.rows)


def _no_position(_: int) -> bytes:
    return b""


def fold_of(plan: Plan, place: Place, defaults: Mapping[str, str], rows: Rows) -> Fold:
    """A fold made with these values, which holds these rows. UnknownVersion."""
    fold = plan.processor.make(plan.context(place, defaults))
    loader = Loader(plan, place.partition, fold)
    keys = list(rows)
    for lo in range(0, len(keys), CHUNK):
        part = keys[lo : lo + CHUNK]
        loader.load(part, [rows[key] for key in part], np.zeros(len(part), np.uint8))
    return fold


class Refolding:
    """A partition's fold through its epochs. Not for two threads at a time."""

    def __init__(
        self, plan: Plan, place: Place, skips: Mapping[int, str], tenant: str,
        told: Callable[[], None],
    ) -> None:  # fmt: skip
        """`told` is called whenever it has got on."""
        self.where = f"{plan.processor.name} at {plan.source}/{place.partition}"
        self.at = -1  # all before this offset is folded
        self.number = 0  # of the epoch that the fold was made with
        self.records = 0  # read so far
        self._plan, self._place, self._skips, self._tenant = plan, place, skips, tenant
        self._told = told
        self._space: Workspace | None = None
        self._worker: Refold | None = None

    def enter(self, epoch: Epoch, rows: Rows) -> None:
        """Go on with a fold made as in this epoch, which holds these rows. HistoryError."""
        self._worker = None  # the last one's memory isn't needed any more
        try:
            fold = fold_of(self._plan, self._place, dict(epoch["settings"]), rows)
        except (Stopped, ValueError) as error:
            raise HistoryError(f"{self.where}: epoch {epoch['number']}: {error}") from error
        self._worker = Refold(self._plan, self._place, fold, self._skips, self._tenant)
        self.number = int(epoch["number"])

    def go_through(self, stretches: Sequence[Stretch], reading: Iterator[Fetched]) -> None:
        """Fold what is read from here on, each stretch in its epoch. HistoryError."""
        inbox = Inbox()
        inbox.begin(self.at, self.at)
        for stretch in stretches:
            if stretch.epoch["number"] != self.number:
                self.enter(stretch.epoch, self._all())
            while self.at < stretch.end:
                if inbox.batches:
                    self._fold(inbox, stretch.end)
                elif inbox.seen >= stretch.end:
                    self.at = stretch.end
                else:
                    inbox.take_in(next(reading))
                self._told()

    def _fold(self, inbox: Inbox, end: int) -> None:
        """Fold what waits, up to a workspace's size."""
        assert self._worker is not None
        self._space = self._space or Workspace(self._plan)
        self._worker.end = end
        batches = inbox.take(self._plan.batch_max)
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
        self.records += sum(one.count for one in batches if one.next_offset <= self.at)
        inbox.put_back(batches, self.at)

    def _all(self) -> Rows:
        assert self._worker is not None
        return rows_of(self._plan, self._worker.fold)

    def rows(self) -> Rows:
        """The rows as they are now: the tenant's, if there is one."""
        return only(self._all(), self._tenant)
