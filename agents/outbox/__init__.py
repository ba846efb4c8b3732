"""The relay: from PostgreSQL's outbox to Kafka, once each, in the order of their key.

What must hold: of a shard at most one batch is sent and still queued, and its receipt says which.
A shard's owner holds an advisory lock of its session and the shard's transactional id. Whoever
takes a shard fences the last owner, reads the receipt, takes off the queue what it lists, and only
then sends. Each batch is one transaction of Kafka (records and receipt), then one DELETE.
"""

from stores.outbox_sql import SHARDS

__all__ = ["OURS", "RECEIPTS", "SHARDS"]

RECEIPTS = "soma.outbox.receipts"
# Headers that the relay or the engine writes: those that users give are left out.
OURS = frozenset(
    {
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_specversion",
        "tenant-id",
        "dedupe-key",
        "soma-key",
        "soma-origin",
        "soma-hops",
        "soma-redriven",
        "soma-letter",
        "soma-failed-first",
    }
)
