"""How a batch's places are shared among the tenants that have a backlog in a shard.

Deficit round robin (Shreedhar and Varghese 1996) with rows as the unit and two rounds a batch. In
the first everybody may take the same; what is left is for those who have more, in equal parts. The
next batch begins behind the last tenant that had its turn. `outbox_sql.PICK` does this inside
PostgreSQL, in one statement; here is the law that it is tested against.
"""

from collections.abc import Sequence


def share(backlogs: Sequence[int], batch: int, most: int) -> list[int]:
    """How many rows each tenant may send, in the order of their turns.

    `backlogs` are rows that could go, `batch` places in all, `most` for one tenant. At least one
    place is each tenant's, and the caller asks for no more tenants than there are places.
    """
    if not 0 < len(backlogs) <= batch:
        raise ValueError(f"{len(backlogs)} tenants for {batch} places")
    quantum = min(max(1, batch // len(backlogs)), most)
    first = [min(have, quantum) for have in backlogs]
    hungry = sum(1 for took in first if took == quantum)
    room = batch - sum(first)
    extra = min(room // hungry, most - quantum) if hungry else 0
    return [
        took + min(have - took, extra) if took == quantum else took
        for have, took in zip(backlogs, first, strict=True)
    ]
