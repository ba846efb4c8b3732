"""Observations by how deep their tenants sleep, for metrics: nothing of it is state."""

import numpy as np

from agents.engine.by_sleep import BySleep, Slept
from agents.kit.asleep import FREEZE, STATES
from agents.kit.batches import Source
from agents.kit.packing import Floats, Ints
from agents.predictors.kernels import FIELD

NOTHING = Slept(0, 0, 0.0)


class Sleepers:
    """What was folded since it was told last."""

    def __init__(self) -> None:
        self._by: dict[str, Slept] = {}

    def add(self, how: Floats, source: Source, records: Ints, errors: Floats) -> None:
        """Records of tenants that sleep so (`asleep.number`), in order; errors by record.

        Of the frozen there are no errors.
        """
        states = how.astype(np.int64) & (len(STATES) - 1)
        for state in range(len(STATES)):
            self.note(state, source, records[states == state], errors)

    def note(self, state: int, source: Source, records: Ints, errors: Floats) -> None:
        """Records of tenants that are all in this state."""
        if not records.shape[0]:
            return
        error = 0.0 if state == FREEZE else float(errors[records].sum())
        ts = int(source.cols.i[FIELD.ts, records[-1]])
        before = self._by.get(STATES[state], NOTHING)
        self._by[STATES[state]] = Slept(
            before.records + records.shape[0], ts, before.errors + error
        )

    def take(self) -> BySleep:
        """See `by_sleep.TellingSleep`; it begins anew."""
        done, self._by = self._by, {}
        return done
