-- The outbox: PostgreSQL and Kafka each count the batches of a shard, so that the one that went back in time is found.

-- The last batch of each shard that was taken off the queue: written in the transaction that does it. The shard's
-- receipt in Kafka has the same number, or the next one (its relay died in between).
CREATE TABLE outbox_batches (
    shard    smallint PRIMARY KEY,
    n        bigint NOT NULL DEFAULT 0,
    taken_at timestamptz  -- off the queue
) WITH (fillfactor = 10);
INSERT INTO outbox_batches (shard) SELECT generate_series(0, 3);
