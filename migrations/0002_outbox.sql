-- The outbox: events that a service writes in its own transaction, and the relay brings to Kafka once each, in
-- the order of their key.
--
-- An event is written once and never updated. What is still to be sent stands in a narrow queue, from which
-- delivery deletes: several times cheaper than updating a status. An event that is in no queue was sent.

-- What follows is found in this schema, and temporary tables last. Without that a role with the right to make them (all
-- have it, unless it was revoked) could put its own, with its own triggers, before the tables of a SECURITY DEFINER
-- function. (The first migration's two functions too.)
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
ALTER FUNCTION frame_history_day(date) SET search_path FROM CURRENT;
ALTER FUNCTION frame_history_drop_before(date) SET search_path FROM CURRENT;

CREATE TABLE outbox_events (
    id         bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    topic      text COLLATE "C" NOT NULL,
    tenant_id  text COLLATE "C" NOT NULL,
    key        text NOT NULL,      -- the scope of order within the tenant
    shard      smallint NOT NULL,  -- outbox_shard(tenant_id, key): which relay sends it
    payload    jsonb,              -- a record as JSON, which the relay checks and encodes ...
    value      bytea,              -- ... or ready Avro in Kafka's wire format
    headers    jsonb,
    dedupe_key text COLLATE "C" NOT NULL,
    CONSTRAINT outbox_one_form CHECK (num_nonnulls(payload, value) = 1),
    CONSTRAINT outbox_dedupe UNIQUE (tenant_id, dedupe_key)
) WITH (
    -- Deleted in batches once they are old: vacuum early and steadily, not once a fifth of the table is dead.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2,
    toast.autovacuum_vacuum_scale_factor = 0.02
);

CREATE TABLE outbox_queue (
    shard           smallint NOT NULL,
    id              bigint NOT NULL,
    tenant_id       text COLLATE "C" NOT NULL,
    key_hash        bigint NOT NULL,  -- of tenant and key: what a row that can't be sent holds back
    created_at      timestamptz NOT NULL,
    status          text COLLATE "C" NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'failed')),
    retries         integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,      -- of a pending row that failed before
    last_error      text,
    PRIMARY KEY (shard, id)
) WITH (
    -- It turns over all the time: without this its dead rows would be read again and again.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000
);

CREATE INDEX outbox_queue_status ON outbox_queue (status, tenant_id, created_at);
-- The relay takes turns between the tenants of a shard.
CREATE INDEX outbox_queue_turns ON outbox_queue (shard, tenant_id, id);
-- The rows that hold others back: few, and asked for with every batch.
CREATE INDEX outbox_queue_held ON outbox_queue (shard, tenant_id, key_hash, id)
    WHERE status = 'failed' OR next_attempt_at IS NOT NULL;

-- Failed rows that an operator gave up.
CREATE TABLE outbox_skipped (
    id         bigint PRIMARY KEY,
    skipped_at timestamptz NOT NULL DEFAULT now(),
    actor      text NOT NULL,
    last_error text
);

-- How many pending events a tenant may have ('*': a tenant without a row of its own).
CREATE TABLE outbox_limits (
    tenant_id   text COLLATE "C" PRIMARY KEY,
    max_pending bigint NOT NULL CHECK (max_pending BETWEEN 1 AND 1000000000)
);
INSERT INTO outbox_limits VALUES ('*', 100000);

-- What was counted of a tenant: its newest row says. Every count is a row of its own, so that whoever counts waits for
-- nobody, and a transaction that stays open after it holds nobody up. Those `refused` are counted by the relay.
CREATE TABLE outbox_counts (
    tenant_id  text COLLATE "C" NOT NULL,
    n          bigint GENERATED ALWAYS AS IDENTITY,
    pending    bigint NOT NULL,
    refused    boolean NOT NULL,
    step       bigint NOT NULL,  -- of so many adds one counts again
    count_at   bigint NOT NULL,  -- and whichever gets this event id, or a later one
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, n)
);
CREATE INDEX outbox_counts_refused ON outbox_counts (tenant_id) WHERE refused;

-- The tenants' allowances, as token buckets that survive a restart of the relay.
CREATE TABLE outbox_buckets (
    tenant_id   text COLLATE "C" PRIMARY KEY,
    tokens      double precision NOT NULL,
    refilled_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Who changed what by hand. Written in the transaction of the change.
CREATE TABLE audit (
    id     bigserial PRIMARY KEY,
    ts     timestamptz NOT NULL DEFAULT now(),
    actor  text NOT NULL,
    action text NOT NULL,
    tenant text,
    detail jsonb NOT NULL
);
CREATE INDEX audit_ts ON audit (ts);

-- Everything as one table, for people.
CREATE VIEW outbox AS
    SELECT e.id, e.created_at, e.topic, e.tenant_id, e.key, e.shard, e.payload, e.value, e.headers, e.dedupe_key,
           CASE WHEN q.status IS NOT NULL THEN q.status WHEN s.id IS NOT NULL THEN 'skipped' ELSE 'sent' END AS status,
           coalesce(q.retries, 0) AS retries, q.next_attempt_at, coalesce(q.last_error, s.last_error) AS last_error
    FROM outbox_events e
    LEFT JOIN outbox_queue q ON q.shard = e.shard AND q.id = e.id
    LEFT JOIN outbox_skipped s ON s.id = e.id;

-- The columns that Debezium's outbox event router looks for (ops/outbox/DEBEZIUM.md).
CREATE VIEW outbox_debezium AS
    SELECT id, topic AS aggregatetype, tenant_id AS aggregateid, topic AS type, payload, created_at AS "timestamp",
           dedupe_key, key
    FROM outbox_events;

CREATE FUNCTION outbox_key_hash(tenant text, key text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN hashtextextended(tenant || U&'\001F' || key, 0);

-- The 4 shards: as many relays can work at once. (More would be smaller batches, each a transaction: at 16 the median
-- event waited twice as long, and a quarter of the rows went through while others were added.)
CREATE FUNCTION outbox_shard(tenant text, key text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (hashtextextended(tenant || U&'\001F' || key, 0) & 3)::smallint;

-- The class of this schema's advisory locks. Objects 0-3: the shard's owner; 100-103: its relay sleeps; 201: rows
-- leave outbox_events, or come back into the queue. Written out, for it must not depend on a caller's search_path.
DO $$ BEGIN
    EXECUTE format('CREATE FUNCTION outbox_lock_class() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN %s',
                   hashtext('soma outbox ' || current_schema()));
END $$;

-- Counts a tenant's pending rows, up to its limit and no further, and notes how soon to count again. Whether the limit
-- is reached; null where another is just counting.
CREATE FUNCTION outbox_recount(tenant text, upto bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    known outbox_counts;
    most  bigint;
    found bigint;
    mine  bigint;
BEGIN
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    -- Several relays ask at once. Counting takes 0.2 us a row or so.
    IF upto IS NULL AND known.counted_at > clock_timestamp() - known.pending * interval '2 microseconds' THEN
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

-- Whether the tenant may add now (SO001 if not), and when it is to be counted.
CREATE FUNCTION outbox_admit(tenant text) RETURNS outbox_counts
LANGUAGE plpgsql AS $$
DECLARE
    known outbox_counts;
BEGIN
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    -- A count that is old: no relay runs that would look again. So one in sixteen does.
    IF known.refused AND (known.counted_at > clock_timestamp() - interval '10 seconds' OR random() * 16 > 1
                          OR outbox_recount(tenant) IS NOT FALSE) THEN
        RAISE 'outbox: the tenant % has % events pending, its limit', tenant, known.pending
            USING ERRCODE = 'SO001', HINT = 'Is the relay running? `soma outbox summary` shows what waits.';
    END IF;
    RETURN known;
END $$;

-- Wakes the shard's relay, if it sleeps. A sleeping relay holds this lock alone, and is notified. One that is awake
-- finds the row by itself: it can't fall asleep while a transaction holds the lock with it. (Notifying takes a lock
-- that lets commits of the whole database through one at a time: so only a sleeper is notified.)
CREATE FUNCTION outbox_wake(shard integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(outbox_lock_class(), 100 + shard) THEN
        PERFORM pg_notify(current_schema() || '.outbox', shard::text);
    END IF;
END $$;

-- Whether an event may be added. (No {1,200} in the patterns: that alone takes 20 us. Text is measured as text where it
-- is long, for what comes from a table may be compressed.)
CREATE FUNCTION outbox_good(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, scope text, headers jsonb
) RETURNS boolean
LANGUAGE sql
RETURN octet_length(topic) BETWEEN 1 AND 200 AND topic COLLATE "C" ~ '^[a-z0-9._-]+$'
    AND octet_length(tenant) BETWEEN 1 AND 128 AND tenant COLLATE "C" ~ '^[A-Za-z0-9._-]+$'
    AND octet_length(dedupe_key) BETWEEN 1 AND 256 AND octet_length(scope) BETWEEN 1 AND 256
    AND (payload IS NULL OR pg_column_size(payload) <= 8192 OR octet_length(payload::text) <= 1000000)
    AND (value IS NULL OR octet_length(value) <= 1000000)
    AND (headers IS NULL OR (jsonb_typeof(headers) = 'object' AND octet_length(headers::text) <= 16384));

-- Says what is wrong with an event.
CREATE FUNCTION outbox_refuse(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, scope text, headers jsonb
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF (octet_length(topic) BETWEEN 1 AND 200 AND topic COLLATE "C" ~ '^[a-z0-9._-]+$') IS NOT TRUE THEN
        RAISE 'outbox: the topic % is not 1-200 of [a-z0-9._-]', quote_nullable(left(topic, 60)) USING ERRCODE = '22023';
    ELSIF (octet_length(tenant) BETWEEN 1 AND 128 AND tenant COLLATE "C" ~ '^[A-Za-z0-9._-]+$') IS NOT TRUE THEN
        RAISE 'outbox: the tenant % is not 1-128 of [A-Za-z0-9._-]', quote_nullable(left(tenant, 60)) USING ERRCODE = '22023';
    ELSIF coalesce(octet_length(dedupe_key), 0) NOT BETWEEN 1 AND 256 THEN
        RAISE 'outbox: the dedupe key has % bytes, not 1-256', coalesce(octet_length(dedupe_key), 0) USING ERRCODE = '22023';
    ELSIF octet_length(scope) NOT BETWEEN 1 AND 256 THEN
        RAISE 'outbox: the key has % bytes, not 1-256', octet_length(scope) USING ERRCODE = '22023';
    ELSIF coalesce(octet_length(value), octet_length(payload::text)) > 1000000 THEN
        RAISE 'outbox: an event has at most 1,000,000 bytes, this one %',
            coalesce(octet_length(value), octet_length(payload::text)) USING ERRCODE = '22023';
    END IF;
    RAISE 'outbox: headers are a JSON object of at most 16,384 bytes' USING ERRCODE = '22023';
END $$;

-- The event that has this dedupe key; with a warning if it says something else.
CREATE FUNCTION outbox_first(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, scope text
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    first outbox_events;
BEGIN
    SELECT * INTO first FROM outbox_events e
    WHERE e.tenant_id = tenant AND e.dedupe_key = outbox_first.dedupe_key;
    IF FOUND AND (first.topic, first.key, first.payload, first.value)
        IS DISTINCT FROM (topic, scope, payload, value) THEN
        RAISE WARNING 'outbox: the dedupe key % of tenant % is event %, which says something else: that one is kept',
            quote_literal(left(dedupe_key, 60)), tenant, first.id USING ERRCODE = 'SO002';
    END IF;
    RETURN first.id;
END $$;

-- What both ways of adding one share. Returns the event's id; the first one's, if the dedupe key was there.
CREATE FUNCTION outbox_insert(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, key text, headers jsonb
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    scope text := coalesce(outbox_insert.key, tenant);
    hash  bigint;
    place smallint;
    new   bigint;
    is_full boolean;
    every bigint;
    due   bigint;
BEGIN
    IF outbox_good(topic, tenant, payload, value, dedupe_key, scope, headers) IS NOT TRUE THEN
        PERFORM outbox_refuse(topic, tenant, payload, value, dedupe_key, scope, headers);
    END IF;
    SELECT c.refused, c.step, c.count_at INTO is_full, every, due FROM outbox_counts c
    WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    IF is_full THEN
        PERFORM outbox_admit(tenant);
    END IF;
    hash := outbox_key_hash(tenant, scope);
    place := (hash & 3)::smallint;
    LOOP
        INSERT INTO outbox_events AS e (topic, tenant_id, key, shard, payload, value, headers, dedupe_key)
        VALUES (topic, tenant, scope, place, payload, value, headers, dedupe_key)
        ON CONFLICT ON CONSTRAINT outbox_dedupe DO NOTHING
        RETURNING e.id INTO new;
        EXIT WHEN new IS NOT NULL;
        new := outbox_first(topic, tenant, payload, value, dedupe_key, scope);
        CONTINUE WHEN new IS NULL;  -- it has just left, being old
        RETURN new;
    END LOOP;
    INSERT INTO outbox_queue (shard, id, tenant_id, key_hash, created_at) VALUES (place, new, tenant, hash, now());
    IF every IS NULL OR new >= due OR random() * every < 1 THEN
        PERFORM outbox_recount(tenant, new);
    END IF;
    IF NOT pg_try_advisory_xact_lock_shared(outbox_lock_class(), 100 + place) THEN
        PERFORM outbox_wake(place);
    END IF;
    RETURN new;
END $$;

-- (No sequential scans: while the tables are small a plan would begin with them, and be kept when they have grown.)

-- Add an event as JSON. `key` is the scope of order (default: the tenant). The same dedupe key again adds nothing and
-- returns the first event's id; with another content it warns as well (SO002). SO001: too many are pending.
CREATE FUNCTION soma_outbox_add(
    topic text, tenant text, payload jsonb, dedupe_key text, key text DEFAULT NULL, headers jsonb DEFAULT NULL
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off
RETURN outbox_insert(topic, tenant, coalesce(payload, 'null'::jsonb), NULL, dedupe_key, key, headers);

-- Add an event whose value is ready: Avro in Kafka's wire format (schema ids: avro/ids.json).
CREATE FUNCTION soma_outbox_add_avro(
    topic text, tenant text, value bytea, dedupe_key text, key text DEFAULT NULL, headers jsonb DEFAULT NULL
) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off
RETURN outbox_insert(topic, tenant, NULL, coalesce(value, ''::bytea), dedupe_key, key, headers);

-- Add many events, in their order, with one statement: a fourth of the cost. `duplicate`: the dedupe key was there, or is
-- there twice, and `id` is the first one's; it `differs` if that one says something else. Otherwise as soma_outbox_add.
CREATE FUNCTION soma_outbox_add_many(
    topics text[], tenants text[], payloads jsonb[], dedupe_keys text[], keys text[], all_headers jsonb[]
) RETURNS TABLE (n integer, id bigint, duplicate boolean, differs boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    counts outbox_counts[];
    known  outbox_counts;
    added  bigint[];
    ids    bigint[];
    shards smallint[];
    bad    record;
    one    record;
BEGIN
    FOR bad IN
        SELECT g.* FROM unnest(topics, tenants, payloads, dedupe_keys, keys, all_headers)
            WITH ORDINALITY AS g (topic, tenant, payload, dedupe_key, key, headers, n)
        WHERE outbox_good(topic, tenant, payload, NULL, dedupe_key, coalesce(key, tenant), headers) IS NOT TRUE
        ORDER BY n LIMIT 1
    LOOP
        PERFORM outbox_refuse(bad.topic, bad.tenant, bad.payload, NULL, bad.dedupe_key,
                              coalesce(bad.key, bad.tenant), bad.headers);
    END LOOP;
    FOR one IN SELECT DISTINCT g.tenant FROM unnest(tenants) AS g (tenant) LOOP
        counts := counts || outbox_admit(one.tenant);
    END LOOP;
    ids := ARRAY(SELECT nextval('outbox_events_id_seq') FROM generate_series(1, cardinality(topics)));
    -- Ids are in the order of the events, but rows come in that of their dedupe keys: so no two of these wait for one
    -- another.
    WITH made AS (
        INSERT INTO outbox_events AS e (id, topic, tenant_id, key, shard, payload, headers, dedupe_key)
        SELECT g.id, g.topic, g.tenant, coalesce(g.key, g.tenant), outbox_shard(g.tenant, coalesce(g.key, g.tenant)),
               coalesce(g.payload, 'null'::jsonb), g.headers, g.dedupe_key
        FROM unnest(ids, topics, tenants, payloads, dedupe_keys, keys, all_headers)
            AS g (id, topic, tenant, payload, dedupe_key, key, headers)
        ORDER BY g.tenant COLLATE "C", g.dedupe_key COLLATE "C", g.id
        ON CONFLICT ON CONSTRAINT outbox_dedupe DO NOTHING
        RETURNING e.id, e.tenant_id, e.key, e.shard
    ), queued AS (
        INSERT INTO outbox_queue (shard, id, tenant_id, key_hash, created_at)
        SELECT m.shard, m.id, m.tenant_id, outbox_key_hash(m.tenant_id, m.key), now() FROM made m ORDER BY m.id
    )
    SELECT array_agg(m.id), array_agg(DISTINCT m.shard) INTO added, shards FROM made m;
    FOR one IN SELECT g.tenant, count(*) AS so_many FROM unnest(tenants) AS g (tenant) GROUP BY g.tenant LOOP
        SELECT c.* INTO known FROM unnest(counts) AS c WHERE c.tenant_id = one.tenant;
        IF known.step IS NULL OR ids[cardinality(ids)] >= known.count_at OR random() * known.step < one.so_many THEN
            PERFORM outbox_recount(one.tenant, ids[cardinality(ids)]);
        END IF;
    END LOOP;
    PERFORM outbox_wake(s) FROM unnest(shards) AS s;
    IF cardinality(added) = cardinality(ids) THEN
        RETURN QUERY SELECT g.n::integer, g.id, false, false FROM unnest(ids) WITH ORDINALITY AS g (id, n);
        RETURN;
    END IF;
    FOR n, id, duplicate, differs IN
        SELECT g.n, e.id, e.id <> g.id, e.id <> g.id AND (e.topic, e.key, e.payload, e.value) IS DISTINCT FROM
               (g.topic, coalesce(g.key, g.tenant), coalesce(g.payload, 'null'::jsonb), NULL)
        FROM unnest(ids, topics, tenants, payloads, dedupe_keys, keys)
            WITH ORDINALITY AS g (id, topic, tenant, payload, dedupe_key, key, n)
        LEFT JOIN LATERAL (SELECT * FROM outbox_events o WHERE o.tenant_id = g.tenant AND o.dedupe_key = g.dedupe_key
                           LIMIT 1) AS e ON true
        ORDER BY g.n
    LOOP
        IF id IS NULL THEN
            RAISE 'outbox: an old event of this dedupe key has just left: try again' USING ERRCODE = '40001';
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION outbox_recount(text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_admit(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_wake(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_good(text, text, jsonb, bytea, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_refuse(text, text, jsonb, bytea, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_first(text, text, jsonb, bytea, text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_insert(text, text, jsonb, bytea, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION soma_outbox_add(text, text, jsonb, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION soma_outbox_add_avro(text, text, bytea, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION soma_outbox_add_many(text[], text[], jsonb[], text[], text[], jsonb[]) FROM PUBLIC;

-- Events made before `before` leave, if they wait for nothing: those among the next `most` ids after `after`. Says how
-- many left, how many it looked at, and the last id (to go on from). A dedupe key is free again from then on.
-- Ids follow time closely enough that the oldest come first, and what is new is never looked through.
CREATE FUNCTION outbox_forget(before timestamptz, after bigint, most integer)
RETURNS TABLE (gone bigint, looked bigint, last_id bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    -- Not while events come back into the queue by hand: this would not see them there yet, and delete them.
    PERFORM pg_advisory_xact_lock(outbox_lock_class(), 201);
    RETURN QUERY
    WITH old AS MATERIALIZED (
        SELECT e.id, e.shard, e.created_at FROM outbox_events e WHERE e.id > after ORDER BY e.id LIMIT most
    ), left_now AS (
        DELETE FROM outbox_events e USING old
        WHERE e.id = old.id AND old.created_at < before
          AND NOT EXISTS (SELECT FROM outbox_queue q WHERE q.shard = old.shard AND q.id = old.id)
        RETURNING e.id
    ), given_up AS (
        DELETE FROM outbox_skipped s USING left_now WHERE s.id = left_now.id
    )
    SELECT (SELECT count(*) FROM left_now), (SELECT count(*) FROM old WHERE created_at < before),
           coalesce((SELECT max(id) FROM old), after);
END $$;
REVOKE ALL ON FUNCTION outbox_forget(timestamptz, bigint, integer) FROM PUBLIC;
