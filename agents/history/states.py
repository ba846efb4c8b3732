"""A partition's state as it was at an offset: rows folded anew from the log, or read as they are.

A fold begins with nothing, where the log is whole, or with a snapshot; where an epoch begins its
rows are taken into a new fold made with that epoch's values, as a worker that restarts does. What
the past was folded with and we don't have (another law, another policy) is told in `notes`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeVar

from confluent_kafka import Message
from faust.types import TP

from agents.engine.digest import rows_of
from agents.engine.errors import Stopped
from agents.engine.logs import inspect
from agents.engine.plan import Plan, defaults_of
from agents.engine.position import Input, Position
from agents.engine.processor import Place
from agents.engine.recovery import CHUNK, begun, reader
from agents.engine.transport import Fetched
from agents.engine.work import POSITION_KEY
from agents.history import snapshots
from agents.history.epochs import Epoch, Stretch, of_topic, read_epochs, stretches
from agents.history.errors import Gone, HistoryError
from agents.history.folded import Folded
from agents.history.log import read
from agents.history.refold import Changes, Refolding
from agents.history.rows import Rows, counts_for, only, tenant_of
from agents.history.snapshots import Snapshot
from agents.kit.setting import EVERYONE
from agents.settings import Settings
from topics.missed import Admin
from topics.reading import ends_of, read_to
from topics.schemas import schemas

Reading = Iterator[Fetched]
Found = TypeVar("Found")
WHOLE = "the whole log"


class State(NamedTuple):
    """Rows, and how far they are folded; None where nothing has been folded yet."""

    rows: Rows
    position: Position | None


class Lost(NamedTuple):
    """Offsets `begin`..`end`-1 of the source that are gone, and never were folded."""

    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.begin}..{self.end - 1}"

    def hint(self, partition: int) -> str:
        """What to say to go on all the same."""
        return f"`--accept-loss {partition}:{self}` goes on without them"


class Start(NamedTuple):
    """Where a fold begins: the offset, the epoch in force there, the rows, and what they are of."""

    offset: int
    epoch: int
    rows: Rows
    of: str


def _nothing() -> None:
    """Nobody is told."""


def current(
    settings: Settings, plan: Plan, partition: int, tenant: str = "",
    some: Collection[str] | None = None,
) -> State:  # fmt: skip
    """The state topic's rows (of one tenant, if told, or of some and everybody) as this version
    writes them, to its end as it is now: rows and position are of the same transactions.

    HistoryError for what this version can't read; KafkaException.
    """
    place = (plan.state, partition)
    loader = begun(plan, Place("0" * 8, partition), defaults_of(plan.processor, settings))
    consumer = reader(settings, "soma-history", [place])
    try:
        ends = ends_of(consumer, [place], settings.answer_timeout_s)
        for messages in read_to(consumer, ends, CHUNK):
            loader.take(_wanted(messages, tenant, some))
    except Stopped as error:
        raise HistoryError(str(error)) from error
    finally:
        consumer.close()
    return State(only(rows_of(plan, loader.fold), tenant), loader.position)


def _wanted(messages: list[Message], tenant: str, some: Collection[str] | None) -> list[Message]:
    if some is not None:
        kept = {*some, EVERYONE, POSITION_KEY.decode()}
        return [one for one in messages if tenant_of(one.key() or b"") in kept]
    if not tenant:
        return messages
    return [
        one for one in messages
        if one.key() == POSITION_KEY or counts_for(one.key() or b"", tenant)
    ]  # fmt: skip


class Past:
    """One partition of a processor, folded anew from its log. Not for two threads at a time.

    With a tenant its records alone are folded, and those for everybody. `told` is called now and
    then while it goes on.
    """

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, tenant: str = "",
        told: Callable[[], None] = _nothing,
    ) -> None:  # fmt: skip
        """KafkaException, BrokerError, HistoryError."""
        self._settings, self._plan, self._partition = settings, plan, partition
        self._tenant = tenant
        self.where = f"{plan.processor.name} at {plan.source}/{partition}"
        self._skips: dict[int, str] = {}  # grows where more are found
        self.source = self._look()
        self._place = Place(self.source.topic_id[:8], partition)
        self._folding = Refolding(plan, self._place, self._skips, tenant, told)
        self.notes: list[str] = []
        self.asides: list[str] = []  # what may be a reason where rows differ
        self.begun = -1  # where the fold began
        self.lost: Lost | None = None  # what it had to do without

    def _look(self) -> Input:
        """See how the log stands, and what the epochs log says."""
        where = TP(self._plan.source, self._partition)
        admin = Admin(self._settings.librdkafka())
        found = inspect(self._settings, admin, where, self._plan.state)
        logged = read_epochs(self._settings, self._plan, self._partition)
        self.epochs = of_topic(logged.epochs, found.topic_id)
        self._all = len(self.epochs) == len(logged.epochs)  # none is of a topic before
        self._skips |= {
            one.offset: one.detail for one in logged.skips if one.topic_id == found.topic_id
        }
        return found

    def look_again(self) -> None:
        """Both may have grown. HistoryError where the topic was made anew."""
        before, self.source = self.source, self._look()
        if self.source.topic_id != before.topic_id:
            raise HistoryError(f"{self.where}: the topic was made anew meanwhile")

    @property
    def folding(self) -> Refolding:
        """The fold itself."""
        return self._folding

    @property
    def at(self) -> int:
        """All before this offset is folded."""
        return self._folding.at

    @property
    def records(self) -> int:
        """How many have been read, those of others too."""
        return self._folding.records

    @property
    def before(self) -> bool:
        """Whether it was worked on before the topic was made anew."""
        return not self._all

    @property
    def whole(self) -> bool:
        """Whether the log still has all that was ever folded."""
        first = self.epochs[0] if self._all and self.epochs else None
        if first is None or first["number"] != 1:
            return False
        return self._begins(int(first["from_offset"]))

    @property
    def other_law(self) -> bool:
        """Whether some of what it folds from where it began was folded by another law than ours."""
        law, ends = self._plan.processor.law, [one["from_offset"] for one in self.epochs[1:]]
        return any(
            one["law"] != law and (end is None or end > self.begun)
            for one, end in zip(self.epochs, [*ends, None], strict=True)
        )

    def _begins(self, offset: int) -> bool:
        return self.source.low <= offset

    def check(self, offset: int) -> None:
        """HistoryError for an offset that lies behind the end of the log."""
        if offset > self.source.high:
            raise HistoryError(
                f"{self._plan.source}/{self._partition} ends at {self.source.high}, before offset "
                f"{offset}: Kafka went back in time (restored?), or it never was there"
            )

    def start(self, until: int, newest: bool = True, accepted: Lost | None = None) -> str:
        """Begin before `until`; returns with what: a snapshot, or nothing.

        With the newest good snapshot; or else as early as the log allows: with nothing where it is
        whole, and the oldest snapshot from which it goes on where not. Where neither will do, and
        exactly what is missing is accepted: with what there is before it. Else raises Gone, naming
        what is missing and which snapshots can't be used.
        """
        self.check(until)
        refused: list[str] = []
        start = None if not newest and self.whole else self._snapshot(until, newest, refused)
        if start is None and self.whole:
            first = self.epochs[0]
            begin = min(int(first["from_offset"]), until)
            start = Start(begin, 1, {}, WHOLE)
        if start is None:
            start = self._without(until, accepted, refused)
        self.notes += refused
        self.begun = self._folding.at = start.offset
        epoch = self._epoch(start.epoch)
        self._note(epoch)
        self._folding.enter(epoch, start.rows)
        return start.of

    def outlook(self, until: int, newest: bool) -> tuple[int, str]:
        """At which offset `start` would begin, and with what, as far as is known without reading
        rows. As it.
        """
        self.check(until)
        refused: list[str] = []
        if self.whole and not newest:
            return min(int(self.epochs[0]["from_offset"]), until), WHOLE
        found = [
            one.next_offset for one in snapshots.listed(self._settings, self._plan, self._partition)
            if self._usable(one, until, refused)
        ]  # fmt: skip
        if found:
            at = found[0] if newest else found[-1]
            return at, f"the snapshot at {at}"
        if self.whole:
            return min(int(self.epochs[0]["from_offset"]), until), WHOLE
        raise Gone(self._missing(refused))

    def _snapshot(
        self, until: int, newest: bool, refused: list[str], gap: bool = False
    ) -> Start | None:
        """The newest or the oldest good snapshot before `until` that the log goes on from.

        With a `gap` between them, if need be.
        """
        found = (
            one for one in snapshots.listed(self._settings, self._plan, self._partition)
            if self._usable(one, until, refused, gap)
        )  # fmt: skip
        for one in found if newest else reversed(list(found)):
            try:
                rows = snapshots.load(self._settings, self._plan, one, self._tenant)
                self._epoch(one.epoch)
            except HistoryError as error:
                refused.append(f"not used: {error}")
                continue
            return Start(one.next_offset, one.epoch, rows, f"the snapshot at {one.next_offset}")
        return None

    def _without(self, until: int, accepted: Lost | None, refused: list[str]) -> Start:
        """Begin where the log does, with the newest snapshot before that, or with nothing."""
        if accepted is None:
            raise Gone(self._missing(refused))
        low = self.source.low
        start = self._snapshot(low, True, [], gap=True)
        if start is None and self._all and self.epochs and self.epochs[0]["number"] == 1:
            start = Start(int(self.epochs[0]["from_offset"]), 1, {}, "nothing")
        if start is None or low > until:
            raise Gone(self._missing(refused))
        lost = Lost(start.offset, low)
        if accepted != lost:
            raise Gone(f"{self._missing(refused)}. {lost.hint(self._partition)}")
        self.lost = lost
        return Start(low, start.epoch, start.rows, f"{start.of}, without offsets {lost}")

    def _usable(self, one: Snapshot, until: int, refused: list[str], gap: bool = False) -> bool:
        if one.wrong:
            refused.append(f"not used: {one.wrong}")
        elif one.topic_id != self.source.topic_id:
            refused.append(f"not used: {one.place} is of a topic that was made anew since")
        else:
            return one.next_offset <= until and (gap or self._begins(one.next_offset))
        return False

    def _missing(self, refused: Iterable[str]) -> str:
        low = self.source.low
        first = int(self.epochs[0]["from_offset"]) if self.epochs else 0
        if not self.epochs:
            why = "the epochs log says nothing of it"
        elif not self._all or self.epochs[0]["number"] != 1:
            why = "its state began before the topic was made anew, or Kafka went back in time"
        else:
            why = f"offsets {first} to {low - 1} are no longer in the log, which begins at {low}"
        said = "; ".join(refused) or "`soma snapshot list` shows those there are"
        return f"{self.where}: {why}, and no snapshot stands for them ({said})"

    def _epoch(self, number: int) -> Epoch:
        return stretches(self.epochs, 0, number, 0)[0].epoch

    def start_bare(self, offset: int) -> None:
        """Begin with nothing, as in the epoch in force there: rows are what came since then alone.

        HistoryError.
        """
        self.check(offset)
        before = [one for one in self.epochs if int(one["from_offset"]) <= offset]
        if not before:
            raise HistoryError(f"{self.where}: no epoch holds at offset {offset}")
        self.begun = self._folding.at = offset
        self._note(before[-1])
        self._folding.enter(before[-1], {})

    def start_with(self, offset: int, rows: Rows) -> None:
        """Begin with rows that are of this offset, as in the epoch in force there. HistoryError."""
        self.check(offset)
        before = [one for one in self.epochs if int(one["from_offset"]) <= offset]
        if not before:
            raise HistoryError(f"{self.where}: no epoch holds at offset {offset}")
        self.begun = self._folding.at = offset
        self._folding.enter(before[-1], rows)

    def twin(self, changes: Changes) -> Refolding:
        """Another fold with the same rows, at the same offset, under changed settings."""
        place, skips, tenant = self._place, self._skips, self._tenant
        other = Refolding(self._plan, place, skips, tenant, _nothing, changes)
        other.at, other.sample = self.at, self._folding.sample
        other.enter(self._epoch(self._folding.number), self._folding.all())
        return other

    @property
    def epoch(self) -> Epoch:
        """The one in which the fold is."""
        return self._epoch(self._folding.number)

    def todo(self, offset: int) -> list[Stretch]:
        """What is to be folded up to this offset, by epochs. HistoryError."""
        if offset < self.at:
            raise ValueError(f"{self.where}: at {self.at} already, behind {offset}")
        self.check(offset)
        todo = stretches(self.epochs, self.at, self._folding.number, offset)
        for stretch in todo[1:]:
            self._note(stretch.epoch)
        return todo

    def fold_to(self, offset: int) -> None:
        """Fold on, all records before this offset. HistoryError, KafkaException."""
        self._fold_to(offset, self._folding.go_through)

    def fold_next(self) -> Folded | None:
        """Fold on, the next record alone; None: there stands none (a transaction's marker, say)."""
        return self._fold_to(self.at + 1, self._folding.look_at)

    def _fold_to(self, offset: int, fold: Callable[[list[Stretch], Reading], Found]) -> Found:
        todo = self.todo(offset)
        place = self._plan.source, self._partition
        with closing(read(self._settings, place, self.at, offset)) as reading:
            return fold(todo, reading)

    def _note(self, epoch: Epoch) -> None:
        """Tell what an epoch was folded with that we don't have."""
        number, law = epoch["number"], self._plan.processor.law
        if epoch["law"] != law:
            self.notes.append(f"epoch {number} was folded by law {epoch['law']}, not {law}")
        if epoch["policy"] != self._plan.policy_digest:
            self.notes.append(f"epoch {number} was folded with another policy than today's")
        if epoch["schemas"] != schemas().digest():
            self.asides.append(f"epoch {number} was folded with other schemas than today's")

    def rows(self) -> Rows:
        """The rows of the fold as it is (of the tenant, if there is one)."""
        return self._folding.rows()

    def everyone(self) -> bytes | None:
        """The row of the settings of everybody, if there is one."""
        return self._folding.everyone()
