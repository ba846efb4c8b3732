"""A partition's state folded anew beside the live one, and both compared at the live position."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from agents.engine.digest import rows_of
from agents.engine.errors import Stopped
from agents.engine.plan import Plan, defaults_of
from agents.engine.position import Position, lost
from agents.engine.processor import Place
from agents.history.errors import Gone, HistoryError
from agents.history.refold import fold_of
from agents.history.rows import Differing, Digest, Rows, differing, tenant_of
from agents.history.states import Lost, Past
from agents.history.stored import stored
from agents.history.whereabouts import folded_to
from agents.settings import Settings

NOTHING = Lost(0, 0)


@dataclass(frozen=True, slots=True)
class Compared:
    """Both sides at one position: those of some tenants, or all."""

    live: Digest
    anew: Digest
    differing: list[Differing]
    lacking: list[str] = field(default_factory=list)  # tenants of whom neither side has a row


class Beside:
    """One partition. Not for two threads at a time; `told` is called while it folds or compares."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, tenants: Collection[str],
        told: Callable[[Past], None], said: int | None = None, newest: bool | None = None,
    ) -> None:  # fmt: skip
        """`said`: before which offset all was folded, where nothing else tells. `newest`: whether
        to begin with the newest snapshot, though the log is whole; None: where rows are lost.
        KafkaException, BrokerError, HistoryError.
        """
        self.said, self._newest = said, newest
        self._settings, self._plan, self._partition = settings, plan, partition
        self._tenants = frozenset(tenants)
        alone = next(iter(self._tenants)) if len(self._tenants) == 1 else ""
        self.stored = stored(settings, plan, partition)  # first: the log is longer then

        def on() -> None:
            told(self.past)

        self._told = on
        self.past = Past(settings, plan, partition, alone, told=on)
        self.of = ""  # what the fold began with
        self.why = ""  # the name of what stopped the partition, if rows or records are lost
        self.until = 0  # up to where it is folded
        self.changes: list[tuple[bytes, bytes | None]] = []  # what the state topic lacks

    @property
    def position(self) -> Position | None:
        """Where the live state is, as read last; None: nothing, or nobody knows any more."""
        return self.stored.position

    def begin(self, accepted: Lost = NOTHING) -> bool:
        """Begin a fold before the live state; False where there is none yet.

        A state that is lost, or whose records were deleted before they were read, can be made anew
        where all that is missing is accepted, and nothing else. HistoryError.
        """
        past, at = self.past, self.position
        if at is None and not past.epochs:
            if past.before:
                text = "its state began before the topic was made anew"
                raise HistoryError(f"{past.where}: state_lost: {text}")
            return False
        if at is not None and at.topic_id != past.source.topic_id:
            raise HistoryError(f"{past.where}: the topic was made anew since its state was written")
        if at is None or lost(at, past.source):
            self._begin_lost(accepted)
        elif past.source.low > at.seen:
            self._begin_behind(Lost(at.seen, past.source.low), accepted)
        else:
            self.until = at.next_offset
            # What is to be proven is in no snapshot, unless one is asked for.
            self.of = past.start(self.until, newest=bool(self._newest))
        if self.said is not None and (at is not None or not self.why):
            raise HistoryError(f"{past.where}: its position is known, and isn't to be said")
        if accepted != NOTHING and past.lost is None:
            raise HistoryError(f"{past.where}: nothing is missing, yet {accepted} may be")
        return True

    def _begin_lost(self, accepted: Lost) -> None:
        """All rows are gone; the position too, unless the owner has written since."""
        past, self.why = self.past, "state_lost"
        if self._tenants:
            raise HistoryError(
                f"{past.where}: state_lost: it can be made anew for all tenants only"
            )
        self.until = self._lost_until()
        self.of = past.start(self.until, newest=self._newest is not False, accepted=accepted)
        if self.said is not None:
            past.notes.append(f"somebody says that all before offset {self.said} was folded")

    def _lost_until(self) -> int:
        """Up to where a lost state was folded; for good, once its owner is fenced."""
        source, at = self.past.source, self.position
        if at is not None:
            return max(at.next_offset, source.low)
        span = source.low, source.high
        plan, epochs = self._plan, self.past.epochs
        return folded_to(self._settings, plan, self._partition, span, epochs, self.said)

    def _begin_behind(self, gone: Lost, accepted: Lost) -> None:
        """The state is there: it goes on behind what was deleted."""
        past, self.why = self.past, "records_gone"
        if accepted != gone:
            raise Gone(
                f"{past.where}: records_gone: offsets {gone} were deleted before they were read. "
                f"{gone.hint(self._partition)}"
            )
        past.lost, self.until, self.of = gone, gone.end, "the state as it is"

    def fold(self) -> None:
        """Fold up to where the live state is."""
        if self.why != "records_gone":
            self.past.fold_to(self.until)

    def read_on(self) -> None:
        """Take in what the live side has done since, and what the epochs log says of it."""
        self.stored.read_on()
        self.past.look_again()
        at = self.position
        if self.why == "records_gone":
            if self.past.source.low != self.until:
                raise HistoryError(f"{self.past.where}: more records were deleted meanwhile")
        elif self.why or at is None:
            self.until = max(self._lost_until(), self.past.at)
        else:
            self.until = max(at.next_offset, self.past.at)

    def compare(self) -> Compared:
        """Both sides. HistoryError where this version can't read the live one."""
        here = self._chosen(self.stored.rows)
        anew = here if self.why == "records_gone" else self._chosen(self.past.rows())
        self._told()
        live = here if here == anew else self._chosen(self._written_anew())
        self._told()
        gone: list[tuple[bytes, bytes | None]] = [(key, None) for key in here if key not in anew]
        self.changes = gone + [(key, new) for key, new in anew.items() if here.get(key) != new]
        met = {tenant_of(key) for key in (*live, *anew)}
        lacking = sorted(self._tenants - met)
        digests = Digest(live, self._told), Digest(anew, self._told)
        return Compared(*digests, differing(live, anew, told=self._told), lacking)

    def new_position(self) -> Position:
        """The position that goes with the rows made anew."""
        source, at = self.past.source, self.position
        if self.why or at is None:
            epoch = at.epoch if at is not None else int(self.past.epoch["number"])
            return Position(self.until, self.until, source.topic_id, epoch, source.state_id)
        return Position(at.next_offset, at.seen, at.topic_id, at.epoch, source.state_id)

    def _written_anew(self) -> Rows:
        """The live rows as this version writes them: an older one may have."""
        plan, place = self._plan, Place("0" * 8, self._partition)
        try:
            defaults = defaults_of(plan.processor, self._settings)
            return rows_of(plan, fold_of(plan, place, defaults, self.stored.rows))
        except Stopped as error:
            raise HistoryError(str(error)) from error

    def _chosen(self, rows: Rows) -> Rows:
        if not self._tenants:
            return rows
        return {key: value for key, value in rows.items() if tenant_of(key) in self._tenants}
