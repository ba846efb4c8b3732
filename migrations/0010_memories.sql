-- What is remembered, as memory.latest has it: two rows of a memory, its head, which each event writes, and its content,
-- which an access doesn't (agents/memory_rows.py). A memory that is forgotten has none. Vectors stay in the topic.

-- As in 0002: temporary tables last.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- A payload's words, stemmed: of its texts and numbers, not of its fields' names. Of one that has too many for a
-- tsvector (1 MB; a payload may have 900 kB) those of its first 100,000 characters.
CREATE FUNCTION memory_words(payload jsonb) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF octet_length(payload::text) < 65536 THEN
        RETURN jsonb_to_tsvector('pg_catalog.english', payload, '["string", "numeric"]');
    END IF;
    BEGIN
        RETURN jsonb_to_tsvector('pg_catalog.english', payload, '["string", "numeric"]');
    EXCEPTION WHEN program_limit_exceeded THEN
        RETURN to_tsvector('pg_catalog.english', left(payload::text, 100000));
    END;
END $$;

CREATE TABLE memories (
    id              text COLLATE "C" NOT NULL,
    tenant          text COLLATE "C" NOT NULL,
    namespace       text COLLATE "C" NOT NULL,
    part            text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    content_version bigint NOT NULL,
    memory_type     text COLLATE "C" NOT NULL,
    importance_raw  double precision,
    created_ts      timestamptz NOT NULL,
    updated_ts      timestamptz NOT NULL,
    accessed_ts     timestamptz NOT NULL,
    access_count    bigint NOT NULL,
    links           jsonb NOT NULL,
    coordinate      text NOT NULL,
    payload         jsonb,
    model_revision  text NOT NULL,
    words           tsvector GENERATED ALWAYS AS (memory_words(payload)) STORED,
    topic_id        text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    log_time        timestamptz NOT NULL,
    PRIMARY KEY (tenant, namespace, id, part)
) WITH (fillfactor = 80);

-- The tenant as an array: so it may stand in a GIN index without an extension.
CREATE INDEX memories_words ON memories USING gin ((ARRAY[tenant]), words) WHERE part = 'content';

INSERT INTO projections (name) VALUES ('memories');

-- Whom the owner hasn't given a policy (`soma migrate grants`) sees no row: a worker all, the HTTP API those of the
-- tenant in soma.tenant, which it sets for each question, a reader those of his tenant.
ALTER TABLE memories ENABLE ROW LEVEL SECURITY;

-- One row a memory, for people; whoever asks sees what he may see of the table.
CREATE VIEW memories_now WITH (security_invoker = true) AS
SELECT head.tenant, head.namespace, head.id, content.coordinate, head.version, head.memory_type, head.importance_raw,
       head.created_ts, head.updated_ts, head.accessed_ts, head.access_count, head.links,
       content.payload, content.model_revision, content.words
FROM memories AS head
JOIN memories AS content ON content.tenant = head.tenant AND content.namespace = head.namespace
     AND content.id = head.id AND content.part = 'content' AND content.version = head.content_version
WHERE head.part = 'head';

-- The memories of a tenant that have words of a question, best first, among those that fit the filters (null: any). A
-- word counts the more the rarer it is, and saturates with how often it stands in a memory, as in BM25 (Robertson and
-- Zaragoza 2009): its weight is ln(1 + (all - n + 0.5) / (n + 0.5)), where n of the tenant's memories that fit have
-- it, and what it says of a memory is ts_rank by the logarithm of its length. Equal scores are in the order of ids.
--
-- It has its owner's rights, for under row security no index is used whose operator might leak: `@@` isn't known not
-- to. So it asks for soma.tenant itself, tells ids alone, and whoever asks joins them with the rows that he may see.
CREATE FUNCTION memory_matches(
    of_tenant text, question text, most integer, in_namespace text, of_type text,
    since timestamptz, until timestamptz, fields jsonb
) RETURNS TABLE (namespace text, id text, score double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    terms  tsquery[];
    any_of tsquery;
    alive  bigint;
BEGIN
    IF of_tenant IS DISTINCT FROM current_setting('soma.tenant', true) THEN
        RAISE 'memories of a tenant are asked for, and soma.tenant is another' USING ERRCODE = '42501';
    END IF;
    SELECT array_agg(term::tsquery), string_agg(term, ' | ')::tsquery INTO terms, any_of
    FROM (
        SELECT '''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''' AS term
        FROM unnest(to_tsvector('pg_catalog.english', question)) ORDER BY positions[1] LIMIT 64
    ) AS asked;
    IF any_of IS NULL THEN
        RETURN;
    END IF;
    SELECT count(*) INTO alive FROM memories AS held WHERE held.tenant = of_tenant AND held.part = 'content';
    RETURN QUERY
    WITH matched AS MATERIALIZED (
        SELECT content.namespace, content.id, content.words
        FROM memories AS content
        JOIN memories AS head ON head.tenant = of_tenant AND head.namespace = content.namespace
             AND head.id = content.id AND head.part = 'head'
        WHERE ARRAY[content.tenant] @> ARRAY[of_tenant] AND content.tenant = of_tenant
          AND content.part = 'content' AND content.words @@ any_of
          AND (in_namespace IS NULL OR content.namespace = in_namespace)
          AND (of_type IS NULL OR head.memory_type = of_type)
          AND (since IS NULL OR head.updated_ts >= since) AND (until IS NULL OR head.updated_ts < until)
          AND (fields IS NULL OR content.payload @> fields)
    ), said AS (
        SELECT matched.namespace, matched.id, term.k,
               ts_rank('{1, 1, 1, 1}', matched.words, term.one, 1)::double precision AS weight
        FROM matched JOIN unnest(terms) WITH ORDINALITY AS term (one, k) ON matched.words @@ term.one
    ), common AS (
        SELECT said.k, ln(1 + (alive - count(*) + 0.5) / (count(*) + 0.5))::double precision AS rarity
        FROM said GROUP BY said.k
    )
    -- (Rounded: the order in which numbers are added isn't always the same.)
    SELECT said.namespace, said.id, round(sum(said.weight * common.rarity)::numeric, 9)::double precision
    FROM said JOIN common ON common.k = said.k
    GROUP BY said.namespace, said.id ORDER BY 3 DESC, 2 LIMIT most;
END $$;
REVOKE ALL ON FUNCTION memory_matches(text, text, integer, text, text, timestamptz, timestamptz, jsonb) FROM PUBLIC;

-- As in 0007, but for columns that make themselves.
CREATE OR REPLACE FUNCTION projection_rebuild_merge(
    of_projection text, OUT removed bigint, OUT changed bigint, OUT added bigint
)
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    anew text := quote_ident(of_projection || '_anew');
    names text;
    values_anew text;
    of_a_key text;
BEGIN
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum),
           string_agg('anew.' || quote_ident(attname), ', ' ORDER BY attnum)
    INTO names, values_anew FROM pg_attribute
    WHERE attrelid = quote_ident(of_projection)::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '';
    SELECT string_agg(format('held.%I = anew.%I', attname, attname), ' AND ') INTO of_a_key
    FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE indrelid = quote_ident(of_projection)::regclass AND indisprimary;
    EXECUTE format('DELETE FROM %I AS held WHERE NOT EXISTS (SELECT FROM %s AS anew WHERE %s)',
        of_projection, anew, of_a_key);
    GET DIAGNOSTICS removed = ROW_COUNT;
    EXECUTE format('UPDATE %I AS held SET (%s) = ROW(%s) FROM %s AS anew '
        'WHERE %s AND ROW(held.*) IS DISTINCT FROM ROW(anew.*)',
        of_projection, names, values_anew, anew, of_a_key);
    GET DIAGNOSTICS changed = ROW_COUNT;
    EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM %s AS anew '
        'WHERE NOT EXISTS (SELECT FROM %I AS held WHERE %s)',
        of_projection, names, values_anew, anew, of_projection, of_a_key);
    GET DIAGNOSTICS added = ROW_COUNT;
END $$;
REVOKE ALL ON FUNCTION projection_rebuild_merge(text) FROM PUBLIC;

-- As in 0007, but that who fills the new table may take rows away there: what a topic's tombstones name.
CREATE OR REPLACE FUNCTION projection_rebuild_begin(
    of_projection text, for_job text, from_generation bigint,
    OUT state text, OUT generation bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    live projections;
    held projection_rebuilds;
    kind "char";
    writer oid;
    anew text := of_projection || '_anew';
BEGIN
    SELECT * INTO live FROM projections WHERE name = of_projection FOR UPDATE;
    SELECT * INTO held FROM projection_rebuilds WHERE projection = of_projection;
    generation := held.generation;
    IF held.job = for_job AND held.placed_at IS NOT NULL THEN
        state := 'placed';
        RETURN;
    END IF;
    IF live.name IS NULL OR live.dropped OR live.generation <> from_generation THEN
        state := 'overtaken';
        RETURN;
    END IF;
    IF held.job = for_job AND projection_rebuild_fits(of_projection) THEN
        state := 'going';
        RETURN;
    END IF;
    -- What another job has left: it is over, or it wouldn't be this one's turn.
    DELETE FROM projection_rebuilds WHERE projection = of_projection;
    PERFORM projection_rebuild_clear(of_projection);
    SELECT relkind INTO kind FROM pg_class WHERE oid = quote_ident(of_projection)::regclass;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', anew, of_projection)
        || CASE WHEN kind = 'p'
           THEN ' PARTITION BY ' || pg_get_partkeydef(quote_ident(of_projection)::regclass) ELSE '' END;
    FOR writer IN
        SELECT DISTINCT grantee FROM pg_class c, aclexplode(c.relacl)
        WHERE c.oid = quote_ident(of_projection)::regclass AND privilege_type = 'INSERT' AND grantee <> c.relowner
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO %s', anew,
            CASE WHEN writer = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(writer)) END);
    END LOOP;
    INSERT INTO projection_rebuilds (projection, job) VALUES (of_projection, for_job)
    RETURNING projection_rebuilds.generation INTO generation;
    state := 'begun';
END $$;
REVOKE ALL ON FUNCTION projection_rebuild_begin(text, text, bigint) FROM PUBLIC;
