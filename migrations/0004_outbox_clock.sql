-- The outbox: a clock that goes back refuses nobody, and a server whose NOTIFY queue is full takes events.

-- As in the second migration: for the functions that take their search path from here.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Whether that was so short a time ago. What lies in the future by the server's clock was noted by one that was ahead:
-- it may be as old as the server.
CREATE FUNCTION outbox_younger(noted timestamptz, age interval) RETURNS boolean
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN noted > clock_timestamp() - age AND noted <= clock_timestamp();
REVOKE ALL ON FUNCTION outbox_younger(timestamptz, interval) FROM PUBLIC;

-- As in the second migration, but for the clock.
CREATE OR REPLACE FUNCTION outbox_recount(tenant text, upto bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    known outbox_counts;
    most  bigint;
    found bigint;
    mine  bigint;
BEGIN
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    -- Several relays ask at once. Counting takes 0.2 us a row or so.
    IF upto IS NULL AND outbox_younger(known.counted_at, known.pending * interval '2 microseconds') THEN
        RETURN known.refused;
    END IF;
    SELECT max_pending INTO most FROM outbox_limits WHERE tenant_id IN (tenant, '*')
    ORDER BY tenant_id = '*' LIMIT 1;
    most := coalesce(most, 1000000000);
    BEGIN
        -- By one at a time, and nobody waits. The exception gives the lock back at once: a writer may keep its
        -- transaction open for long, and add for more tenants than the server has room for locks.
        IF pg_try_advisory_xact_lock(outbox_lock_class(), hashtext(tenant) | (-2147483648)) THEN
            SELECT count(*) INTO found FROM (
                SELECT FROM outbox_queue q WHERE q.status = 'pending' AND q.tenant_id = tenant LIMIT most
            ) AS those;
        END IF;
        RAISE SQLSTATE 'SO000';
    EXCEPTION WHEN SQLSTATE 'SO000' THEN
        NULL;
    END;
    IF found IS NULL THEN
        RETURN NULL;
    END IF;
    IF upto IS NULL THEN
        SELECT last_value INTO upto FROM outbox_events_id_seq;
    END IF;
    INSERT INTO outbox_counts AS c (tenant_id, pending, refused, step, count_at)
    VALUES (tenant, found, found >= most, greatest((most - found) / 8, most / 64, 1), upto + most)
    RETURNING c.n INTO mine;
    -- (At a stricter level of isolation that would fail where another has done it.)
    IF current_setting('transaction_isolation') = 'read committed' THEN
        DELETE FROM outbox_counts c USING (
            SELECT o.n FROM outbox_counts o WHERE o.tenant_id = tenant AND o.n < mine FOR UPDATE SKIP LOCKED
        ) AS older
        WHERE c.tenant_id = tenant AND c.n = older.n;
    END IF;
    RETURN found >= most;
END $$;

-- As in the second migration, but for the clock.
CREATE OR REPLACE FUNCTION outbox_admit(tenant text) RETURNS outbox_counts
LANGUAGE plpgsql AS $$
DECLARE
    known outbox_counts;
BEGIN
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    -- A count that is old: no relay runs that would look again. So one in sixteen does; and
    -- each, if it is of a clock that was ahead.
    IF known.refused AND (outbox_younger(known.counted_at, interval '10 seconds')
                          OR (known.counted_at <= clock_timestamp() AND random() * 16 > 1)
                          OR outbox_recount(tenant) IS NOT FALSE) THEN
        RAISE 'outbox: the tenant % has % events pending, its limit', tenant, known.pending
            USING ERRCODE = 'SO001', HINT = 'Is the relay running? `soma outbox summary` shows what waits.';
    END IF;
    RETURN known;
END $$;

-- As in the second migration, but not into a queue that is half full: some session that listens stands still in its
-- transaction. A NOTIFY fails when its transaction commits, where no exception can be caught, and the event would fail
-- with it. The relay looks by itself every two seconds.
CREATE OR REPLACE FUNCTION outbox_wake(shard integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(outbox_lock_class(), 100 + shard)
        AND pg_notification_queue_usage() < 0.5 THEN
        PERFORM pg_notify(current_schema() || '.outbox', shard::text);
    END IF;
END $$;

-- Counts that a later one has replaced: each of two first adds of a tenant at once leaves one. (Only the newest is read.)
DELETE FROM outbox_counts older WHERE EXISTS (
    SELECT FROM outbox_counts newer WHERE newer.tenant_id = older.tenant_id AND newer.n > older.n);
