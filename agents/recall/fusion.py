"""Several rankings of memories as one, by reciprocal ranks.

    score(m) = sum over the rankings that have m of 1 / (60 + rank)

with ranks from 1 (Cormack, Clarke and Buettcher 2009, "Reciprocal rank fusion outperforms Condorcet
and individual rank learning methods", SIGIR; 60 is theirs). Scores of the rankings needn't be
comparable: a cosine and a sum of rarities aren't.
"""

from collections.abc import Iterable, Sequence

K = 60  # how little the very first ranks differ
DEPTH = 100  # of each ranking, at least, for what neither has at its top may be the best of both
DEEPER = 4  # times what is asked for


def depth_of(top_k: int, most: int) -> int:
    """How many of each ranking are looked at for so many answers."""
    return min(most, max(DEPTH, DEEPER * top_k))


def fused(rankings: Iterable[Sequence[str]]) -> list[tuple[str, float]]:
    """(id, score), best first, equal ones by id. A ranking has each id once, best first."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, 1):
            scores[one] = scores.get(one, 0.0) + 1.0 / (K + rank)
    return sorted(scores.items(), key=lambda one: (-one[1], one[0]))
