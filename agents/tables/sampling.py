"""Which frames the history keeps: a pure function of the topic, so that a rebuild keeps the same.

`off`; `all`; `1/N`: those at an offset that N divides; `1s`, `500ms`: the first of a tenant in each
such interval of log time.
"""

import re
from dataclasses import dataclass

PATTERN = r"off|all|1/[1-9][0-9]{0,6}|[1-9][0-9]{0,6}(ms|s)"
REMEMBERED_MAX = 200_000  # tenants whose last interval is known without asking the store


@dataclass(frozen=True, slots=True)
class Sampling:
    """What SOMA_PROJECTIONS__HISTORY says."""

    every: int = 1  # offsets
    interval_ms: int = 0  # of log time; 0: no such rule

    def slot(self, log_ms: int, offset: int) -> tuple[int, int]:
        """(ms, sequence): records of a tenant with the same slot are one sample."""
        if self.interval_ms:
            return log_ms - log_ms % self.interval_ms, 0
        return log_ms, offset


def parse(said: str) -> Sampling | None:
    """The rule; None for `off`. ValueError if it isn't one."""
    if not re.fullmatch(PATTERN, said):
        raise ValueError("give off, all, 1/N (every n-th), or an interval such as 1s or 500ms")
    if said == "off":
        return None
    if said == "all":
        return Sampling()
    if said.startswith("1/"):
        return Sampling(every=int(said[2:]))
    if said.endswith("ms"):
        return Sampling(interval_ms=int(said[:-2]))
    return Sampling(interval_ms=int(said[:-1]) * 1000)


class Sieve:
    """Says of each record of a topic, in order, whether it may be a sample.

    It forgets: then it says yes to what the store has already, and the store keeps the first.
    """

    def __init__(self, rule: Sampling) -> None:
        self._rule = rule
        self._last: dict[bytes, int] = {}

    def takes(self, key: bytes, log_ms: int, offset: int) -> bool:
        """Whether the record of this tenant may be a sample."""
        rule = self._rule
        if not rule.interval_ms:
            return offset % rule.every == 0
        slot = rule.slot(log_ms, offset)[0]
        if self._last.get(key) == slot:
            return False
        if len(self._last) >= REMEMBERED_MAX:
            self._last.clear()
        self._last[key] = slot
        return True

    def forget(self) -> None:
        """What was taken may not have been stored: ask again."""
        self._last.clear()
