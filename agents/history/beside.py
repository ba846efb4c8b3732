"""A partition's state folded anew beside the live one, and both compared at the live position."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from agents.engine.digest import rows_of
from agents.engine.errors import Stopped
from agents.engine.plan import Plan, defaults_of
from agents.engine.position import Position
from agents.engine.processor import Place
from agents.history.errors import HistoryError
from agents.history.refold import fold_of
from agents.history.rows import Differing, Digest, Rows, differing, tenant_of
from agents.history.states import Past
from agents.history.stored import Stored
from agents.settings import Settings


@dataclass(frozen=True, slots=True)
class Compared:
    """Both sides at one position: those of some tenants, or all."""

    live: Digest
    anew: Digest
    differing: list[Differing]
    lacking: list[str] = field(default_factory=list)  # tenants of whom neither side has a row


class Beside:
    """One partition. Not for two threads at a time; `told` is called while a fold goes on."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, tenants: Collection[str],
        told: Callable[[Past], None],
    ) -> None:  # fmt: skip
        """KafkaException, BrokerError, HistoryError."""
        self._settings, self._plan, self._partition = settings, plan, partition
        self._tenants = frozenset(tenants)
        alone = next(iter(self._tenants)) if len(self._tenants) == 1 else ""
        self.past = Past(settings, plan, partition, alone, told=lambda: told(self.past))
        self.stored = Stored(settings, plan, partition)
        self.of = ""  # what the fold began with

    @property
    def position(self) -> Position | None:
        """Where the live state is, as read last; None: nothing has been folded yet."""
        return self.stored.position

    def begin(self) -> bool:
        """Read the live state, and begin a fold before it; False where there is no state yet.

        HistoryError: it is lost, or of another topic, or what it follows from is gone.
        """
        self.stored.read_on()
        past, position = self.past, self.position
        if position is None:
            if past.epochs:
                text = "the epochs log says it was worked on, yet its state topic has no position"
                raise HistoryError(f"{past.where}: state_lost: {text}")
            return False
        if position.topic_id != past.source.topic_id:
            raise HistoryError(f"{past.where}: the topic was made anew since its state was written")
        self.of = past.start(position.next_offset, newest=True)
        return True

    def fold(self) -> None:
        """Fold up to where the live state is."""
        assert self.position is not None
        self.past.fold_to(self.position.next_offset)

    def read_on(self) -> None:
        """Take in what the live side has done since, and what the epochs log says of it."""
        self.stored.read_on()
        self.past.look_again()

    def compare(self) -> Compared:
        """Both sides. HistoryError where this version can't read the live one."""
        anew = self._chosen(self.past.rows())
        live = self._chosen(self.stored.rows)
        if live != anew:
            live = self._chosen(self._written_anew())
        met = {tenant_of(key) for key in (*live, *anew)}
        lacking = sorted(self._tenants - met)
        return Compared(Digest(live), Digest(anew), differing(live, anew), lacking)

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        """What of the state topic is to be written that it holds the rows made anew."""
        anew, stored = self._chosen(self.past.rows()), self._chosen(self.stored.rows)
        gone: list[tuple[bytes, bytes | None]] = [(key, None) for key in stored if key not in anew]
        return gone + [(key, value) for key, value in anew.items() if stored.get(key) != value]

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
