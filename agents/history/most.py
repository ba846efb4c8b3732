"""Who differs most, of any number of tenants, in bounded room."""

from collections import Counter

ROOM = 20_000  # tenants that are counted at a time


class Most:
    """Counts by tenant. Where there are more than ROOM the half with least is let go: what is
    counted is at least what was, and those far ahead are among the first whatever the order.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._counts = Counter[str]()
        self.exact = True  # whether nobody was let go

    def add(self, tenant: str, count: int) -> None:
        """Count more of a tenant."""
        if tenant not in self._counts and len(self._counts) >= self._room:
            kept = self._counts.most_common(self._room // 2)
            self._counts, self.exact = Counter(dict(kept)), False
        self._counts[tenant] += count

    def first(self, n: int) -> list[tuple[str, int]]:
        """The n with most, the most first; equal ones by name."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]
