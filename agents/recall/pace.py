"""How many texts a provider is asked for at a time, and how long one that failed alone rests."""

AGAIN_S, LONGEST_S = 0.5, 600.0


class Pace:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), between 1 and `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.size = most  # asked for next

    def well(self, asked: int) -> None:
        """So many were made. Fewer than might be asked for say nothing of more."""
        if asked >= self.size:
            self.size = min(self._most, self.size + 1)

    def failed(self, asked: int) -> None:
        """So many failed: half of them next time. One alone says nothing of how many may be."""
        if asked > 1:
            self.size = min(self.size, asked // 2)


def rest_after(rest_s: float) -> float:
    """How long a text rests that failed once more, after it rested so long (0: it never did), s."""
    return min(max(AGAIN_S, 2 * rest_s), LONGEST_S)
