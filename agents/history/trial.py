"""A stretch of a tenant's past, or everybody's, folded twice: as it was, and under other settings.

Nothing is sent. Both folds begin with the same rows and take in the same records; a setting that is
changed keeps its changed value throughout, whoever has set another. Only this processor is folded:
what others would have made of its outputs stays as it was.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from agents.engine.plan import Plan
from agents.engine.transport import Fetched
from agents.history.epochs import Stretch
from agents.history.errors import Gone
from agents.history.published import looked_for
from agents.history.refold import Refolding
from agents.history.sides import Sides
from agents.history.states import Past
from agents.history.view import views
from agents.kit.setting import AT, EVERYONE, find, parse
from agents.settings import Settings

NOTES_MAX = 20  # of all partitions together
ALPHA, ALPHA_ELSE = "alpha", 2.0  # of a loss; where the processor has no such setting


def checked(plan: Plan, changes: Mapping[str, str]) -> dict[str, str]:
    """Values as the processor's declaration of settings has them. ValueError says what is wrong."""
    found: dict[str, str] = {}
    for name, text in changes.items():
        if AT in name:
            raise ValueError(f"{name}: what a tenant's setting does can be tried, not a domain's")
        found[name] = str(parse(plan.processor.settings, name, text))
    return found


class Trial:
    """One tenant's, or that of all tenants of a partition. Begin it, take in what lies before the
    stretch, split it, take in the stretch.

    Not for two threads at a time.
    """

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, tenant: str,
        changes: Mapping[str, str], sides: Sides | None = None,
    ) -> None:  # fmt: skip
        """`tenant`: empty for all. `changes`: as `checked` gives them. `sides`: of partitions
        before this one, where there are some. KafkaException, BrokerError, HistoryError.
        """
        self._settings, self._plan, self._changes = settings, plan, changes
        self._tenant = tenant
        self._past = Past(settings, plan, partition, tenant)
        self._folds: list[Refolding] = [self._past.folding]
        self._todo: list[Stretch] = []
        self._given = sides
        self._sides: Sides | None = None  # from the stretch on
        self._first = self._before = 0
        self._since_ms = -1  # log time of the stretch's first batch
        self._notes: list[str] = []

    @property
    def at(self) -> int:
        """All before this offset is folded."""
        return self._past.at

    def begin(self, first: int, partial: bool) -> None:
        """Be ready for what lies before the stretch, which begins at `first`.

        Gone, where that isn't whole; `partial`: it then begins with nothing. HistoryError.
        """
        self._first = first
        try:
            self._past.start(first)
        except Gone as error:
            if not partial:
                raise
            self._past.start_bare(first)
            self._notes.append(f"both begin with nothing at offset {first}: {error}")
        self._todo = self._past.todo(first)
        self._past.folding.begin()

    def split(self, end: int) -> None:
        """All before the stretch is folded: from here to `end` there are two. HistoryError."""
        self._todo = self._past.todo(end)
        self._folds.append(self._past.twin(self._changes))
        if self._given is not None:
            self._sides = self._given
            self._sides.begin(self._first, end)
        else:
            several = not self._tenant
            self._sides = Sides(self._plan, self._alpha(), self._first, end, several=several)
        self._before = self._past.folding.folded
        for fold in self._folds:
            fold.heard()  # from now on
            fold.begin()
        if self._plan.policy is not None and self._plan.policy.remote:
            self._notes.append("a remote policy isn't asked again: its answers are those of then")

    def _alpha(self) -> float:
        """By which errors become losses on both sides: as it was where the stretch begins."""
        declared = self._plan.processor.settings
        if ALPHA not in declared:
            return ALPHA_ELSE
        rows = views(self._plan.processor, self._past.folding.all())
        own = {one.tenant: one.settings for one in rows if ALPHA in one.settings}
        values = self._past.folding.values
        alpha = float(values.get(ALPHA, find(declared, ALPHA)[0].default))
        mine = next((one for one in (self._tenant, EVERYONE) if one in own), None)
        if mine is not None:
            alpha = float(own[mine][ALPHA])
        if not self._tenant and (others := own.keys() - {EVERYONE}):
            self._notes.append(
                f"losses are by alpha {alpha:g} on both sides, though {len(others):,} tenants of "
                f"{self._past.where} have one of their own"
            )
        return alpha

    def take_in(self, fetched: Fetched) -> None:
        """Records from where it is on."""
        if self._sides is not None and self._since_ms < 0 and fetched.batches:
            batch = fetched.batches[0]
            self._since_ms = batch.max_ms if batch.log_append_time else batch.first_ms
        for fold in self._folds:
            fold.take_in(Fetched(fetched.tag, list(fetched.batches), fetched.seen, fetched.stable))

    def go_on(self, end: int) -> None:
        """Fold what was taken in, before `end`. HistoryError."""
        for fold in self._folds:
            fold.go_on(self._todo, end)
        if self._sides is not None:
            was, would = (fold.heard() for fold in self._folds)
            self._sides.add(was, would)

    def published(self) -> Iterator[int]:
        """Look for what was, as it is now folded, in the logs of the sinks: how many records were
        read, now and then. KafkaException.
        """
        assert self._sides is not None
        for place, expected in self._sides.published.places:
            yield from looked_for(self._settings, place, self._since_ms, expected)

    @property
    def records(self) -> int:
        """Of the stretch, folded so far."""
        return self._past.folding.folded - self._before

    def notes(self) -> list[str]:
        """What is to be known beside the numbers."""
        assert self._sides is not None
        counts = self._sides.published.counts().values()
        lacking = any(found < looked for looked, found in counts)
        return [*self._notes, *self._past.notes, *(self._past.asides if lacking else ())]

    def data(self) -> dict[str, Any]:
        """The result of one tenant, as JSON data."""
        assert self._sides is not None
        return {
            "tenant": self._tenant, "from": self._first, "to": self.at, "records": self.records,
            "notes": self.notes(), **self._sides.data(),
        }  # fmt: skip

    def end(self) -> Sides:
        """All is taken in: its numbers, for who goes on with another partition."""
        assert self._sides is not None
        self._sides.end()
        return self._sides


class Together:
    """What the trials of one partition after the other come to."""

    def __init__(self) -> None:
        self.sides: Sides | None = None
        self._records = 0
        self._notes: dict[str, None] = {}

    def add(self, trial: Trial) -> None:
        """One that has taken in all."""
        self._records += trial.records
        self._notes |= dict.fromkeys(trial.notes())
        self.sides = trial.end()

    def data(self) -> dict[str, Any]:
        """The result, as JSON data; of nothing, where there were no trials."""
        found = self.sides.data() if self.sides is not None else {}
        notes = [*self._notes, *found.get("notes", ())]
        if len(notes) > NOTES_MAX:
            notes = [*notes[:NOTES_MAX], f"and {len(notes) - NOTES_MAX:,} more of the kind"]
        return {**found, "tenant": EVERYONE, "records": self._records, "notes": notes}
