"""A sample of a partition's tenants, folded twice as their records come: as they are, and under
candidate settings.

Both folds begin with the rows that the live processor has now, and take in the records behind them.
Nothing is sent, and no live row is touched. What is kept doesn't grow: figures are of windows that
follow each other (`cut`), and are summed up (`sides.py`). A regret is above the best domain of its
window.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agents.engine.plan import Plan
from agents.engine.transport import Fetched
from agents.history.epochs import Stretch
from agents.history.errors import HistoryError
from agents.history.outputs import Written
from agents.history.pick import Sample
from agents.history.refold import Refolding
from agents.history.sides import Sides
from agents.history.states import Past, current
from agents.history.trial import ALPHA, ALPHA_ELSE
from agents.kit.setting import find
from agents.settings import Settings

PLOTS = ("losses", "errors", "counts", "leaders")  # along a stretch that has an end
LOOKED = ("published", "looked_for")  # nobody looks for them here


class LiveTrial:
    """Of one partition. Begin it, take in what comes, fold it. Not for two threads at a time."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, tenants: frozenset[str],
        changes: Mapping[str, str],
    ) -> None:  # fmt: skip
        """`changes`: as `trial.checked` gives them. KafkaException, BrokerError, HistoryError."""
        self._settings, self._plan, self._partition = settings, plan, partition
        self._tenants, self._changes = tenants, changes
        self._past = Past(settings, plan, partition)
        self._folds: list[Refolding] = []
        self._todo: list[Stretch] = []

    def begin(self) -> None:
        """Both are at where the live processor is. KafkaException, BrokerError, HistoryError."""
        state = current(self._settings, self._plan, self._partition, some=self._tenants)
        if state.position is None:
            raise HistoryError(f"{self._past.where}: nothing was ever folded there")
        self._past.folding.sample = Sample(self._tenants)
        self._past.start_with(state.position.next_offset, state.rows)
        self._folds = [self._past.folding, self._past.twin(self._changes)]
        for fold in self._folds:
            fold.heard()
            fold.begin()
        self.began = self.at

    @property
    def alpha(self) -> float:
        """By which errors become losses."""
        return alpha_of(self._plan, self._past.folding.values)

    @property
    def at(self) -> int:
        """All before this offset is folded, by both."""
        return self._past.at

    @property
    def records(self) -> int:
        """Of the sample, folded so far."""
        return self._past.folding.folded

    def take_in(self, fetched: Fetched) -> None:
        """Records from where it is on, and how far the log is read. BrokerError, HistoryError."""
        self._past.look_again()
        self._todo = self._past.todo(self._past.source.high)
        for fold in self._folds:
            fold.take_in(Fetched(fetched.tag, list(fetched.batches), fetched.seen, fetched.stable))

    def go_on(self, end: int, sides: "LiveSides") -> None:
        """Fold what was taken in, before `end`, and compare. HistoryError."""
        for fold in self._folds:
            fold.go_on(self._todo, end)
        was, would = (fold.heard() for fold in self._folds)
        sides.add(was, would)


class LiveSides:
    """What the trials of all partitions come to together. Not for two threads at a time."""

    def __init__(self, plan: Plan, alpha: float) -> None:
        """`alpha`: by which errors become losses on both sides."""
        self._sides = Sides(plan, alpha, 0, 1, several=True)

    def add(self, was: Sequence[Written], would: Sequence[Written]) -> None:
        """What both have written of the same records."""
        self._sides.add(was, would)

    def cut(self) -> None:
        """Let another window begin."""
        self._sides.end()
        self._sides.begin(0, 1)

    def data(self) -> dict[str, Any]:
        """The result so far, as JSON data; `most` is of the windows that are over."""
        found = self._sides.data()
        figures = {name: _plain(one) for name, one in found["figures"].items()}
        outputs = {
            name: {k: v for k, v in one.items() if k not in LOOKED}
            for name, one in found["outputs"].items()
        }  # fmt: skip
        return {"outputs": outputs, "figures": figures, "most": found["most"]}


def alpha_of(plan: Plan, values: Mapping[str, str]) -> float:
    """The deployment's alpha, where the processor has one."""
    declared = plan.processor.settings
    if ALPHA not in declared:
        return ALPHA_ELSE
    return float(values.get(ALPHA, find(declared, ALPHA)[0].default))


def _plain(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Figures without what is drawn along a stretch, and without lists of boundaries."""
    return {
        side: {
            name: value for name, value in each.items()
            if name not in PLOTS and not name.startswith("listed")
        }
        for side, each in figure.items()
    }  # fmt: skip
