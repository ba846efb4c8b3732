"""The outputs of two folds of one stretch: what they have in common, and what each comes to.

Of one tenant, or of all: then partition by partition (`begin` each, and `end` it), and what is kept
doesn't grow with the records: totals, the few tenants that differ most, and within a partition what
figures need of each of its tenants, up to TENANTS_MAX.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from agents.engine.plan import Plan
from agents.history.figures import Boundaries, Figures, figures_of, in_both, of_all
from agents.history.most import Most
from agents.history.outputs import Comparison, Gathered, Records, Written
from agents.history.rows import tenant_of

FIELDS = 12  # that differ most
SHOWN = 10  # tenants that differ most
TENANTS_MAX = 20_000  # of a partition: figures need a few kB of each
SAMPLE_MAX = 500_000  # outputs of a partition that are looked for among those published
WAS, WOULD = "was", "would"
NONE_IN_BOTH = {
    "both": 0, "near": 0, "only_was": 0, "only_would": 0, "listed_was": [], "listed_would": [],
}  # fmt: skip


class Sides:
    """Takes in what both have written as they go on; the stretch is `first`..`end`-1."""

    def __init__(
        self, plan: Plan, alpha: float, first: int, end: int, *, several: bool = False
    ) -> None:
        """`alpha`: by which errors become losses. `several`: it is of all tenants."""
        self._plan, self._several = plan, several
        self._names = plan.processor.sinks
        self._comparison = Comparison(len(self._names))
        kinds = [one.schema for one in plan.sinks]
        self._figures: tuple[list[Figures | None], ...] = tuple(
            [figures_of(kind, alpha) for kind in kinds] for _ in (WAS, WOULD)
        )
        self._looked, self._found = Counter[str](), Counter[str]()  # by sink
        self._both: dict[int, dict[str, Any]] = {}  # of the stretches that have ended
        self._first_of_all: list[dict[str, Any]] = []
        self._tenants = self._passed = 0
        self._exact = True
        self.begin(first, end)

    def begin(self, first: int, end: int) -> None:
        """Another stretch, of other tenants."""
        self._first, self._size = first, max(1, end - first)
        most = SAMPLE_MAX if self._several else None
        self.published = Gathered(self._plan, most)  # what was, if it was so
        self._met: set[str] = set()
        self._most = Most()

    def add(self, was: Sequence[Written], would: Sequence[Written]) -> None:
        """What both have written of the same records."""
        records = Records()
        self._comparison.add(was, would, records, self._differs if self._several else None)
        self.published.add(was)
        for figures, some in zip(self._figures, (was, would), strict=True):
            for one in some:
                kind = figures[one.sink]
                if kind is None or one.value is None:
                    continue
                record = records[one.value]
                if self._several and not self._takes(record["tenant"]):
                    continue
                kind.add(record, (one.cause - self._first) / self._size)

    def _differs(self, one: Written, count: int) -> None:
        self._most.add(tenant_of(one.key), count)

    def _takes(self, tenant: str) -> bool:
        """Whether figures have room for a tenant."""
        if tenant not in self._met:
            if len(self._met) >= TENANTS_MAX:
                self._passed += 1
                return False
            self._met.add(tenant)
        return True

    def end(self) -> None:
        """What the stretch comes to is kept, and nothing of each tenant."""
        found = [self._of(tenant, count) for tenant, count in self._most.first(SHOWN)]
        found += self._first_of_all
        self._first_of_all = sorted(found, key=lambda one: -one["unlike"])[:SHOWN]
        self._exact &= self._most.exact
        self._tenants += len(self._met)
        for name, (looked, there) in self.published.counts().items():
            self._looked[name] += looked
            self._found[name] += there
        for k, (was, would) in enumerate(zip(*self._figures, strict=True)):
            if isinstance(was, Boundaries) and isinstance(would, Boundaries):
                self._both[k] = of_all(self._both.get(k, NONE_IN_BOTH), in_both(was, would))
            for one in (was, would):
                if one is not None:
                    one.forget()
        self.begin(0, 0)

    def _of(self, tenant: str, count: int) -> dict[str, Any]:
        """A tenant of those that differ most."""
        figures: dict[str, Any] = {}
        for name, *both in zip(self._names, *self._figures, strict=True):
            was, would = ({} if one is None else one.of(tenant) for one in both)
            if was or would:
                figures[name] = {WAS: was, WOULD: would}
        return {"tenant": tenant, "unlike": count, "figures": figures}

    def data(self) -> dict[str, Any]:
        """As JSON data, by sinks without namespace; figures by what outputs are."""
        counts = self.published.counts()
        outputs = {
            name: self._output(k, *counts.get(name, (0, 0))) for k, name in enumerate(self._names)
            if self._comparison.sinks[k].here or self._comparison.sinks[k].there
        }  # fmt: skip
        figures = {
            name: self._figure(k) for k, name in enumerate(self._names)
            if name in outputs and self._figures[0][k] is not None
        }  # fmt: skip
        data = {"outputs": outputs, "figures": figures}
        return data | (self._of_all() if self._several else {})

    def _of_all(self) -> dict[str, Any]:
        notes = []
        if self._passed:
            notes.append(
                f"figures are of the first {TENANTS_MAX:,} tenants of each partition, without "
                f"{self._passed:,} outputs of others"
            )
        if not self._exact:
            notes.append("so many tenants differ that those that differ most are about right")
        return {"tenants": self._tenants, "most": self._first_of_all, "notes": notes}

    def _output(self, k: int, looked: int, found: int) -> dict[str, Any]:
        one, name = self._comparison.sinks[k], self._names[k]
        return {
            WAS: one.here, WOULD: one.there, "equal": one.equal, "differing": one.differing,
            "only_was": one.only_here, "only_would": one.only_there,
            "fields": dict(one.fields.most_common(FIELDS)),
            "published": found + self._found[name], "looked_for": looked + self._looked[name],
        }  # fmt: skip

    def _figure(self, k: int) -> dict[str, Any]:
        was, would = (figures[k] for figures in self._figures)
        assert was is not None and would is not None
        found = {WAS: was.data(), WOULD: would.data()}
        if isinstance(was, Boundaries) and isinstance(would, Boundaries):
            now = in_both(was, would)
            found["boundaries"] = of_all(self._both[k], now) if k in self._both else now
        return found
