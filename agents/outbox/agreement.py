"""Looks at both sides of the outbox, and says whether they agree on what was sent."""

from collections.abc import Mapping

from agents.outbox.digests import digests_of
from agents.outbox.out_of_step import compare, unheard
from agents.outbox.receipts import Receipt, Receipts
from agents.outbox.rows import rows_of
from stores.outbox_relay import Desk, Standing


async def agreed(desk: Desk, receipts: Receipts) -> tuple[Mapping[int, Receipt], Standing]:
    """The last receipts, and how far the database is. `OutOfStepError` where they don't agree.

    Other relays may work meanwhile. KafkaException, `ReceiptsLost`, errors of the database.
    """
    before = await desk.standing()
    papers = await receipts.latest()
    after = await desk.standing()
    found: dict[int, int] = {}
    for shard in unheard(papers, after):
        ids = papers[shard].ids
        rows = rows_of(await desk.names(ids), len(ids))
        found |= zip(rows.ids.tolist(), digests_of(rows).tolist(), strict=True)
    compare(before, papers, after, found)
    return papers, after
