"""A moment of a partition: an offset, or a time of the log."""

import time
from dataclasses import dataclass

from agents.engine.plan import Plan
from agents.engine.position import Input
from agents.history.errors import HistoryError
from agents.history.log import offset_at
from agents.settings import Settings


@dataclass(frozen=True, slots=True)
class Moment:
    """Before the record at this offset, or before all of this log time (microseconds)."""

    text: str  # as it was given
    offset: int = -1
    partition: int | None = None  # which the offset is of, where that was said
    micros: int = -1

    def offset_in(self, settings: Settings, plan: Plan, partition: int, source: Input) -> int:
        """The offset before which all records count. HistoryError where there is none."""
        where = f"{plan.source}/{partition}"
        if self.partition not in (None, partition):
            raise HistoryError(f"{self.text}: it is partition {partition} that counts here")
        if self.micros < 0:
            if self.offset > source.high:
                raise HistoryError(f"{self.text}: {where} ends at offset {source.high}")
            return self.offset
        if self.micros > time.time_ns() // 1000:
            raise HistoryError(f"{self.text} is in the future")
        found = offset_at(settings, (plan.source, partition), -(-self.micros // 1000))
        return source.high if found is None else min(found, source.high)
