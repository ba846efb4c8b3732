"""Looks at both sides of the outbox, and says whether they agree on what was sent."""

from collections.abc import Mapping

from agents.outbox.digests import digests_of
from agents.outbox.out_of_step import compare, unheard
from agents.outbox.receipts import Receipt, Receipts
from agents.outbox.rows import rows_of
from stores.outbox_relay import RelayConnection, Standing


async def agreed(
    connection: RelayConnection, receipts: Receipts
) -> tuple[Mapping[int, Receipt], Standing]:
    """The last receipts, and how far the database is. `OutOfStepError` where they don't agree.

    Other relays may work meanwhile. KafkaException, `ReceiptsLost`, errors of the database.
    """
    before = await connection.standing()
    papers = await receipts.latest()
    after = await connection.standing()
    found: dict[int, int] = {}
    for shard in unheard(papers, after):
        ids = papers[shard].ids
        rows = rows_of(await connection.names(ids), len(ids))
        found |= zip(rows.ids.tolist(), digests_of(rows).tolist(), strict=True)
    compare(before, papers, after, found)
    return papers, after
