-- The outbox: a repetition is answered although its tenant is at its limit, a batch counts as the many events it is,
-- and other headers are another content.

-- As in the second migration: for the functions that take their search path from here.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- What an event's headers say. Not where they were traced: each attempt of a caller has a trace of its own.
CREATE FUNCTION outbox_said(headers jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN coalesce(headers, '{}'::jsonb) - ARRAY['traceparent', 'tracestate'];
REVOKE ALL ON FUNCTION outbox_said(jsonb) FROM PUBLIC;

-- The event that has this dedupe key; with a warning if it says something else. (The one without headers stays: who is
-- adding while this migration runs may come to it.)
CREATE FUNCTION outbox_first(
    topic text, tenant text, payload jsonb, value bytea, dedupe_key text, scope text, headers jsonb
) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    first outbox_events;
BEGIN
    SELECT * INTO first FROM outbox_events e
    WHERE e.tenant_id = tenant AND e.dedupe_key = outbox_first.dedupe_key;
    IF FOUND AND (first.topic, first.key, first.payload, first.value, outbox_said(first.headers))
        IS DISTINCT FROM (topic, scope, payload, value, outbox_said(headers)) THEN
        RAISE WARNING 'outbox: the dedupe key % of tenant % is event %, which says something else: that one is kept',
            quote_literal(left(dedupe_key, 60)), tenant, first.id USING ERRCODE = 'SO002';
    END IF;
    RETURN first.id;
END $$;
REVOKE ALL ON FUNCTION outbox_first(text, text, jsonb, bytea, text, text, jsonb) FROM PUBLIC;

-- As in the second migration, but for a tenant at its limit the dedupe key is looked up first.
CREATE OR REPLACE FUNCTION outbox_insert(
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
        -- Whoever lost the answer learns that the event is there.
        new := outbox_first(topic, tenant, payload, value, dedupe_key, scope, headers);
        IF new IS NOT NULL THEN
            RETURN new;
        END IF;
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
        new := outbox_first(topic, tenant, payload, value, dedupe_key, scope, headers);
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

-- Whether the tenant may add its `so_many` events of a batch (SO001 if not), and when it is to be counted. Twice its
-- limit is the end: until `count_at` fewer ids than the limit are given, so that a batch that stays below it fits; for
-- another one it is counted. What is there already adds nothing.
CREATE FUNCTION outbox_admit_many(tenant text, so_many bigint, tenants text[], dedupe_keys text[], ids bigint[])
RETURNS outbox_counts
LANGUAGE plpgsql AS $$
DECLARE
    known outbox_counts;
    most  bigint;
    fresh bigint;
BEGIN
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    IF NOT known.refused AND ids[cardinality(ids)] < known.count_at THEN
        RETURN known;
    END IF;
    IF known.refused IS NOT TRUE THEN
        PERFORM outbox_recount(tenant, ids[1] - 1);
        SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    END IF;
    SELECT coalesce((SELECT max_pending FROM outbox_limits l WHERE l.tenant_id IN (tenant, '*')
                     ORDER BY l.tenant_id = '*' LIMIT 1), 1000000000) INTO most;
    IF known.refused IS NOT TRUE AND coalesce(known.pending, 0) + so_many <= 2 * most THEN
        RETURN known;
    END IF;
    SELECT count(DISTINCT g.dedupe_key) INTO fresh FROM unnest(tenants, dedupe_keys) AS g (tenant, dedupe_key)
    WHERE g.tenant = outbox_admit_many.tenant AND NOT EXISTS (
        SELECT FROM outbox_events e WHERE e.tenant_id = g.tenant AND e.dedupe_key = g.dedupe_key);
    IF fresh = 0 THEN
        RETURN known;
    END IF;
    PERFORM outbox_admit(tenant);
    SELECT * INTO known FROM outbox_counts c WHERE c.tenant_id = tenant ORDER BY c.n DESC LIMIT 1;
    IF coalesce(known.pending, 0) + fresh > 2 * most THEN
        RAISE 'outbox: the tenant % has % events pending, and % more are beyond twice its limit of %',
            tenant, coalesce(known.pending, 0), fresh, most USING ERRCODE = 'SO001', HINT = 'Add fewer at once.';
    END IF;
    RETURN known;
END $$;
REVOKE ALL ON FUNCTION outbox_admit_many(text, bigint, text[], text[], bigint[]) FROM PUBLIC;

-- As in the second migration, but it admits the batch as a whole, and compares headers.
CREATE OR REPLACE FUNCTION soma_outbox_add_many(
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
    ids := ARRAY(SELECT nextval('outbox_events_id_seq') FROM generate_series(1, cardinality(topics)));
    FOR one IN SELECT g.tenant, count(*) AS so_many FROM unnest(tenants) AS g (tenant) GROUP BY g.tenant LOOP
        counts := counts || outbox_admit_many(one.tenant, one.so_many, tenants, dedupe_keys, ids);
    END LOOP;
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
        SELECT g.n, e.id, e.id <> g.id, e.id <> g.id AND (e.topic, e.key, e.payload, e.value, outbox_said(e.headers))
               IS DISTINCT FROM (g.topic, coalesce(g.key, g.tenant), coalesce(g.payload, 'null'::jsonb), NULL,
                                 outbox_said(g.headers))
        FROM unnest(ids, topics, tenants, payloads, dedupe_keys, keys, all_headers)
            WITH ORDINALITY AS g (id, topic, tenant, payload, dedupe_key, key, headers, n)
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
