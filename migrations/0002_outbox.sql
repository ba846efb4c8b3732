-- The outbox: events that a service writes in its own transaction, and the relay brings to Kafka once each, in
-- the order of their key.
--
-- An event is written once and never updated. What is still to be sent stands in a narrow queue, from which
-- delivery deletes: several times cheaper than updating a status. An event that is in no queue was sent.

CREATE TABLE outbox_events (
    id         bigserial PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    topic      text NOT NULL,
    tenant_id  text NOT NULL,
    key        text NOT NULL,      -- the scope of order within the tenant
    shard      smallint NOT NULL,  -- outbox_shard(tenant_id, key): which relay sends it
    payload    jsonb,              -- a record as JSON, which the relay checks and encodes ...
    value      bytea,              -- ... or ready Avro in Kafka's wire format
    headers    jsonb,
    dedupe_key text NOT NULL,
    CONSTRAINT outbox_one_form CHECK (num_nonnulls(payload, value) = 1),
    CONSTRAINT outbox_dedupe UNIQUE (tenant_id, dedupe_key)
) WITH (
    -- Deleted in batches once they are old: vacuum early and steadily, not once a fifth of the table is dead.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.2
);

CREATE TABLE outbox_queue (
    shard           smallint NOT NULL,
    id              bigint NOT NULL,
    tenant_id       text NOT NULL,
    key_hash        bigint NOT NULL,  -- of tenant and key: what a row that can't be sent holds back
    created_at      timestamptz NOT NULL,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'failed')),
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
    tenant_id   text PRIMARY KEY,
    max_pending bigint NOT NULL CHECK (max_pending BETWEEN 1 AND 1000000000)
);
INSERT INTO outbox_limits VALUES ('*', 100000);

-- What was last counted of a tenant. Adding counts again only once ids have gone on so far that the limit might
-- have been reached since; `refused` tenants are counted by those who take rows off (outbox_recount).
CREATE TABLE outbox_counts (
    tenant_id  text PRIMARY KEY,
    pending    bigint NOT NULL,
    refused    boolean NOT NULL,
    count_at   bigint NOT NULL,  -- the event id from which it must be counted again
    counted_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- The tenants' allowances, as token buckets that survive a restart of the relay.
CREATE TABLE outbox_buckets (
    tenant_id   text PRIMARY KEY,
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

-- The 16 shards: as many relays can work at once.
CREATE FUNCTION outbox_shard(tenant text, key text) RETURNS smallint
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
RETURN (hashtextextended(tenant || U&'\001F' || key, 0) & 15)::smallint;

-- The class of this schema's advisory locks. Objects 0-15: the shard's owner; 100-115: its relay sleeps.
CREATE FUNCTION outbox_lock_class() RETURNS integer
LANGUAGE sql STABLE
RETURN hashtext('soma outbox ' || current_schema());

-- Counts a tenant's pending rows, up to its limit and no further, and notes when to count again: once ids have gone on
-- from `upto` (default: now) by as much as is left. Whether the limit is reached; null where another counts just now.
CREATE FUNCTION outbox_recount(tenant text, upto bigint DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    most bigint;
    n    bigint;
BEGIN
    -- By one at a time, and nobody waits: a writer may keep its transaction open for long.
    IF NOT pg_try_advisory_xact_lock(outbox_lock_class(), hashtext(tenant) | (-2147483648)) THEN
        RETURN NULL;
    END IF;
    IF upto IS NULL THEN
        SELECT last_value INTO upto FROM outbox_events_id_seq;
    END IF;
    SELECT max_pending INTO most FROM outbox_limits WHERE tenant_id IN (tenant, '*')
    ORDER BY tenant_id = '*' LIMIT 1;
    SELECT count(*) INTO n FROM (
        SELECT FROM outbox_queue q WHERE q.status = 'pending' AND q.tenant_id = tenant LIMIT most
    ) AS those;
    INSERT INTO outbox_counts AS c (tenant_id, pending, refused, count_at)
    VALUES (tenant, n, n >= most, upto + greatest(most - n, most / 64 + 1))
    ON CONFLICT (tenant_id) DO UPDATE
    SET pending = excluded.pending, refused = excluded.refused, count_at = excluded.count_at,
        counted_at = clock_timestamp();
    RETURN n >= most;
END $$;

-- Says what is wrong with an event.
CREATE FUNCTION outbox_refuse(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, scope text, headers jsonb
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF topic IS NULL OR topic !~ '^[a-z0-9._-]{1,200}$' THEN
        RAISE 'outbox: the topic % is not 1-200 of [a-z0-9._-]', quote_nullable(left(topic, 60)) USING ERRCODE = '22023';
    ELSIF tenant IS NULL OR tenant !~ '^[A-Za-z0-9._-]{1,128}$' THEN
        RAISE 'outbox: the tenant % is not 1-128 of [A-Za-z0-9._-]', quote_nullable(left(tenant, 60)) USING ERRCODE = '22023';
    ELSIF coalesce(octet_length(dedupe_key), 0) NOT BETWEEN 1 AND 256 THEN
        RAISE 'outbox: the dedupe key has % bytes, not 1-256', coalesce(octet_length(dedupe_key), 0) USING ERRCODE = '22023';
    ELSIF octet_length(scope) NOT BETWEEN 1 AND 256 THEN
        RAISE 'outbox: the key has % bytes, not 1-256', octet_length(scope) USING ERRCODE = '22023';
    ELSIF coalesce(pg_column_size(value), pg_column_size(payload)) > 1000000 THEN
        RAISE 'outbox: an event has at most 1,000,000 bytes, this one %', coalesce(pg_column_size(value), pg_column_size(payload))
            USING ERRCODE = '22023';
    END IF;
    RAISE 'outbox: headers are a JSON object of at most 16,384 bytes' USING ERRCODE = '22023';
END $$;

-- What both ways of adding share. Returns the event's id; the first one's, if the dedupe key was there.
CREATE FUNCTION outbox_insert(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, key text, headers jsonb
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    scope text := coalesce(outbox_insert.key, tenant);
    hash  bigint;
    place smallint;
    new   bigint;
    first outbox_events;
    known outbox_counts;
BEGIN
    -- One expression for the good: each statement of the language costs as much as an index entry.
    IF topic ~ '^[a-z0-9._-]{1,200}$' AND tenant ~ '^[A-Za-z0-9._-]{1,128}$'
        AND octet_length(dedupe_key) BETWEEN 1 AND 256 AND octet_length(scope) BETWEEN 1 AND 256
        AND coalesce(pg_column_size(value), pg_column_size(payload)) <= 1000000
        AND (headers IS NULL OR (jsonb_typeof(headers) = 'object' AND pg_column_size(headers) <= 16384))
    THEN
        NULL;
    ELSE
        PERFORM outbox_refuse(topic, tenant, payload, value, dedupe_key, scope, headers);
    END IF;
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant;
    IF known.refused THEN
        RAISE 'outbox: the tenant % has % events pending, its limit', tenant, known.pending
            USING ERRCODE = 'SO001', HINT = 'Is the relay running? `soma outbox summary` shows what waits.';
    END IF;
    hash := outbox_key_hash(tenant, scope);
    place := (hash & 15)::smallint;
    INSERT INTO outbox_events AS e (topic, tenant_id, key, shard, payload, value, headers, dedupe_key)
    VALUES (topic, tenant, scope, place, payload, value, headers, dedupe_key)
    ON CONFLICT ON CONSTRAINT outbox_dedupe DO NOTHING
    RETURNING e.id INTO new;
    IF new IS NULL THEN
        SELECT * INTO first FROM outbox_events e
        WHERE e.tenant_id = tenant AND e.dedupe_key = outbox_insert.dedupe_key;
        IF (first.topic, first.key, first.payload, first.value)
            IS DISTINCT FROM (topic, scope, payload, value) THEN
            RAISE WARNING 'outbox: the dedupe key % of tenant % is event %, which says something else: that one is kept',
                quote_literal(left(dedupe_key, 60)), tenant, first.id USING ERRCODE = 'SO002';
        END IF;
        RETURN first.id;
    END IF;
    INSERT INTO outbox_queue (shard, id, tenant_id, key_hash, created_at) VALUES (place, new, tenant, hash, now());
    IF known.count_at IS NULL OR new >= known.count_at THEN
        PERFORM outbox_recount(tenant, new);
    END IF;
    -- A sleeping relay holds this lock alone, and is notified. One that is awake finds the row by itself: it can't
    -- fall asleep while a transaction holds the lock with it. (Notifying takes a lock that lets commits of the
    -- whole database through one at a time: so only a sleeper is notified.)
    IF NOT pg_try_advisory_xact_lock_shared(outbox_lock_class(), 100 + place) THEN
        PERFORM pg_notify(current_schema() || '.outbox', place::text);
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

REVOKE ALL ON FUNCTION outbox_recount(text, bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_refuse(text, text, jsonb, bytea, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION outbox_insert(text, text, jsonb, bytea, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION soma_outbox_add(text, text, jsonb, text, text, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION soma_outbox_add_avro(text, text, bytea, text, text, jsonb) FROM PUBLIC;

-- Events made before `before` leave, if they wait for nothing: those among the next `most` ids after `after`. Says how
-- many left, how many it looked at, and the last id (to go on from). A dedupe key is free again from then on.
-- Ids follow time closely enough that the oldest come first, and what is new is never looked through.
CREATE FUNCTION outbox_forget(before timestamptz, after bigint, most integer)
RETURNS TABLE (gone bigint, looked bigint, last_id bigint)
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
           coalesce((SELECT max(id) FROM old), after)
$$;
REVOKE ALL ON FUNCTION outbox_forget(timestamptz, bigint, integer) FROM PUBLIC;

-- Add many events in their order, in one statement. `duplicate`: the dedupe key was there, and `id` is the first one's;
-- `differs`: with another content. Otherwise as soma_outbox_add.
CREATE FUNCTION soma_outbox_add_many(
    topics text[], tenants text[], payloads jsonb[], dedupe_keys text[], keys text[], headers jsonb[]
) RETURNS TABLE (n integer, id bigint, duplicate boolean, differs boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    was bigint;
BEGIN
    FOR n IN 1 .. coalesce(array_length(topics, 1), 0) LOOP
        was := NULL;
        SELECT e.id, (e.topic, e.key, e.payload) IS DISTINCT FROM
               (topics[n], coalesce(keys[n], tenants[n]), payloads[n])
        INTO was, differs FROM outbox_events e WHERE e.tenant_id = tenants[n] AND e.dedupe_key = dedupe_keys[n];
        duplicate := was IS NOT NULL;
        differs := duplicate AND differs;
        id := coalesce(was, outbox_insert(topics[n], tenants[n], coalesce(payloads[n], 'null'::jsonb), NULL, dedupe_keys[n], keys[n], headers[n]));
        RETURN NEXT;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION soma_outbox_add_many(text[], text[], jsonb[], text[], text[], jsonb[]) FROM PUBLIC;
