"""A stretch of a tenant's past folded twice: as it was, and under other settings.

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
    """One tenant's. Begin it, take in what lies before the stretch, split it, take in the stretch.

    Not for two threads at a time.
    """

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, tenant: str,
        changes: Mapping[str, str],
    ) -> None:  # fmt: skip
        """`changes`: as `checked` gives them. KafkaException, BrokerError, HistoryError."""
        self._settings, self._plan, self._changes = settings, plan, changes
        self._tenant = tenant
        self._past = Past(settings, plan, partition, tenant)
        self._folds: list[Refolding] = [self._past.folding]
        self._todo: list[Stretch] = []
        self._sides: Sides | None = None
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
        self._sides = Sides(self._plan, self._alpha(), self._first, end)
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
        for tenant in (self._tenant, EVERYONE):
            if tenant in own:
                return float(own[tenant][ALPHA])
        values = self._past.folding.values
        return float(values.get(ALPHA, find(declared, ALPHA)[0].default))

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

    def data(self) -> dict[str, Any]:
        """The result, as JSON data."""
        assert self._sides is not None
        found = self._sides.data()
        lacking = any(one["published"] < one["was"] for one in found["outputs"].values())
        notes = [*self._notes, *self._past.notes, *(self._past.asides if lacking else ())]
        records = self._past.folding.folded - self._before
        return {
            "tenant": self._tenant, "from": self._first, "to": self.at, "records": records,
            "notes": notes, **found,
        }  # fmt: skip
