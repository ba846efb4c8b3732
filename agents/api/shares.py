"""How many requests of one name are under way: a share of all, so that the others have room."""

from collections import Counter

PARTS = 4


class Shares:
    """Of `most` requests under way, one part in `PARTS` may be of one name."""

    def __init__(self, most: int) -> None:
        self._each = max(1, most // PARTS)
        self._held: Counter[str] = Counter()

    def enter(self, name: str) -> bool:
        """One more of this name is under way; False: it would be too many, and isn't."""
        if self._held.get(name, 0) >= self._each:
            return False
        self._held[name] += 1
        return True

    def leave(self, name: str) -> None:
        """One that entered has ended."""
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]  # names don't pile up
