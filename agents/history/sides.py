"""The outputs of two folds of one stretch: what they have in common, and what each comes to."""

from collections.abc import Sequence
from typing import Any

from agents.engine.plan import Plan
from agents.history.figures import Boundaries, Figures, figures_of, in_both
from agents.history.outputs import Comparison, Gathered, Records, Written
from topics.catalogue import CATALOGUE

FIELDS = 12  # that differ most
WAS, WOULD = "was", "would"


class Sides:
    """Takes in what both have written as they go on; the stretch is `first`..`end`-1."""

    def __init__(self, plan: Plan, alpha: float, first: int, end: int) -> None:
        """`alpha`: by which errors become losses."""
        self._names = plan.processor.sinks
        self._first, self._size = first, max(1, end - first)
        self._comparison = Comparison(len(self._names))
        self.published = Gathered(plan)  # what was, if it was so
        kinds = [CATALOGUE[name].schema for name in self._names]
        self._figures: tuple[list[Figures | None], ...] = tuple(
            [figures_of(kind, alpha) for kind in kinds] for _ in (WAS, WOULD)
        )

    def add(self, was: Sequence[Written], would: Sequence[Written]) -> None:
        """What both have written of the same records."""
        records = Records()
        self._comparison.add(was, would, records)
        self.published.add(was)
        for figures, some in zip(self._figures, (was, would), strict=True):
            for one in some:
                kind = figures[one.sink]
                if kind is None or one.value is None:
                    continue
                kind.add(records[one.value], (one.cause - self._first) / self._size)

    def data(self) -> dict[str, Any]:
        """As JSON data, by sinks without namespace; figures by what outputs are."""
        counts = self.published.counts()
        outputs = {
            name: self._output(k, counts.get(name, (0, 0))[1]) for k, name in enumerate(self._names)
            if self._comparison.sinks[k].here or self._comparison.sinks[k].there
        }  # fmt: skip
        figures = {
            name: self._figure(k) for k, name in enumerate(self._names)
            if name in outputs and self._figures[0][k] is not None
        }  # fmt: skip
        return {"outputs": outputs, "figures": figures}

    def _output(self, k: int, published: int) -> dict[str, Any]:
        one = self._comparison.sinks[k]
        return {
            WAS: one.here, WOULD: one.there, "equal": one.equal, "differing": one.differing,
            "only_was": one.only_here, "only_would": one.only_there,
            "fields": dict(one.fields.most_common(FIELDS)),
            "published": published,
        }  # fmt: skip

    def _figure(self, k: int) -> dict[str, Any]:
        was, would = (figures[k] for figures in self._figures)
        assert was is not None and would is not None
        found = {WAS: was.data(), WOULD: would.data()}
        if isinstance(was, Boundaries) and isinstance(would, Boundaries):
            found["boundaries"] = in_both(was, would)
        return found
