"""What was done for tenants of each depth of sleep; `sleep_metrics.py` shows it."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable


class Slept(NamedTuple):
    """Of the tenants in one state: records, the last one's event time (µs), the sum of errors."""

    records: int
    newest_ts: int
    errors: float


BySleep = Mapping[str, Slept]  # state -> what was done


@runtime_checkable
class TellingSleep(Protocol):
    """A fold that knows how deep its tenants sleep, and says what it did for them."""

    def by_sleep(self) -> BySleep:
        """Since the last call, without states of which there was nothing.

        Called after each fold of a batch; shown once that is committed, never before.
        """
