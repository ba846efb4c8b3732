-- A projection is made anew beside the live one, in tables whose names end with _anew, by a job of replay that reads
-- its topic from the beginning. Complete, it takes the live one's place in one transaction, so that readers see the
-- old rows until they see the new ones.
--
-- The live table stays what it is, with its grants, views, indexes and triggers. A table in one piece gets the rows that
-- are new or changed, and loses those that are gone, as REFRESH MATERIALIZED VIEW CONCURRENTLY does it: nobody who
-- reads is locked out. Of a table with a partition for each day the partitions are replaced, however large they are:
-- this waits for those who read it, and they for this.

-- As in 0002: temporary tables last.
SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- No foreign keys to projections: to add one is to wait for each transaction that writes there, and to hold up others.
-- The last rebuild of each projection. Its generation is never given again: who still fills an earlier one notices.
CREATE TABLE projection_rebuilds (
    projection text PRIMARY KEY,
    generation bigint GENERATED ALWAYS AS IDENTITY,
    job        text NOT NULL,
    began_at   timestamptz NOT NULL DEFAULT now(),
    placed_at  timestamptz  -- null: its tables are there, and are being filled
);

-- Up to where it holds a partition; as projection_positions.
CREATE TABLE projection_rebuild_positions (
    projection      text NOT NULL,
    kafka_partition integer NOT NULL CHECK (kafka_partition >= 0),
    generation      bigint NOT NULL,
    topic_id        text NOT NULL,
    next_offset     bigint NOT NULL CHECK (next_offset >= 0),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, kafka_partition)
) WITH (fillfactor = 50);

-- Whether the table made anew still has the columns of the live one, which a migration may have changed meanwhile.
CREATE FUNCTION projection_rebuild_fits(of_projection text) RETURNS boolean
LANGUAGE sql STABLE SET search_path FROM CURRENT AS $$
    SELECT count(*) = 2 AND count(DISTINCT columns) = 1 FROM (
        SELECT array_agg(
            (attname, atttypid, atttypmod, attcollation, attnotnull)::text ORDER BY attnum
        ) AS columns
        FROM pg_attribute
        WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (
            to_regclass(quote_ident(of_projection)), to_regclass(quote_ident(of_projection || '_anew'))
        )
        GROUP BY attrelid
    ) AS tables
$$;

-- Drops what a rebuild has filled.
CREATE FUNCTION projection_rebuild_clear(of_projection text) RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- First who fills it has to wait, who holds its positions.
    DELETE FROM projection_rebuild_positions WHERE projection = of_projection;
    IF to_regclass(quote_ident(of_projection || '_anew')) IS NOT NULL THEN
        EXECUTE format('DROP TABLE %I', of_projection || '_anew');
    END IF;
END $$;

-- Begins a job's rebuild, or finds it. 'begun': the tables are new and empty; 'going': it is to go on; 'placed': it has
-- taken the live one's place already; 'overtaken': the projection isn't what it was when the job was planned. Whoever
-- may write the live table may write the new one.
CREATE FUNCTION projection_rebuild_begin(
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
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO %s', anew,
            CASE WHEN writer = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(writer)) END);
    END LOOP;
    INSERT INTO projection_rebuilds (projection, job) VALUES (of_projection, for_job)
    RETURNING projection_rebuilds.generation INTO generation;
    state := 'begun';
END $$;

-- As frame_history_day. What is in it is checked as it comes, so that it needn't be when it takes its place.
CREATE FUNCTION frame_history_anew_day(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    name text := 'frame_history_anew_' || to_char(day, 'YYYYMMDD');
    since timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    PERFORM pg_advisory_xact_lock('frame_history_anew'::regclass::oid::bigint);
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE frame_history_anew INCLUDING ALL)', name);
    EXECUTE format(
        'ALTER TABLE %I ADD CONSTRAINT of_its_day CHECK (slot >= %L AND slot < %L)', name, since, until
    );
    EXECUTE format(
        'ALTER TABLE frame_history_anew ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, until
    );
END $$;

-- The rows of a table in one piece become those made anew.
CREATE FUNCTION projection_rebuild_merge(
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
    WHERE attrelid = quote_ident(of_projection)::regclass AND attnum > 0 AND NOT attisdropped;
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

-- The days of the history become those made anew. A day of the old one that has no rows stays, empty: who writes may
-- believe it to be there.
CREATE FUNCTION projection_rebuild_days() RETURNS void
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    one record;
    own text;
    of_it text;
    former text[];
BEGIN
    PERFORM pg_advisory_xact_lock('frame_history'::regclass::oid::bigint);  -- who makes and drops days
    LOCK TABLE frame_history IN ACCESS EXCLUSIVE MODE;
    SELECT array_agg(relname) INTO former
    FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'frame_history'::regclass;
    FOREACH own IN ARRAY coalesce(former, '{}') LOOP
        EXECUTE format('DROP TABLE %I', own);
    END LOOP;
    FOR one IN
        SELECT oid, relname, pg_get_expr(relpartbound, oid) AS bound
        FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = 'frame_history_anew'::regclass
    LOOP
        own := replace(one.relname, '_anew', '');
        EXECUTE format('ALTER TABLE frame_history_anew DETACH PARTITION %I', one.relname);
        EXECUTE format('ALTER TABLE %I RENAME TO %I', one.relname, own);
        FOR of_it IN SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = one.oid LOOP
            IF to_regclass(quote_ident(replace(of_it, '_anew', ''))) IS NULL THEN
                EXECUTE format('ALTER INDEX %I RENAME TO %I', of_it, replace(of_it, '_anew', ''));
            END IF;
        END LOOP;
        EXECUTE format('ALTER TABLE frame_history ATTACH PARTITION %I %s', own, one.bound);
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT of_its_day', own);
    END LOOP;
    FOREACH own IN ARRAY coalesce(former, '{}') LOOP
        PERFORM frame_history_day(to_date(right(own, 8), 'YYYYMMDD'));
    END LOOP;
END $$;

-- Puts what a rebuild has filled in the live one's place, rows and positions, and drops what is over. Of a table in one
-- piece: how many rows that took away, changed and added. Whoever wrote the live one notices by its position.
CREATE FUNCTION projection_rebuild_place(
    of_projection text, OUT removed bigint, OUT changed bigint, OUT added bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    next_generation bigint;
BEGIN
    UPDATE projections SET generation = generation + 1, since = now() WHERE name = of_projection
    RETURNING generation INTO next_generation;
    DELETE FROM projection_positions WHERE projection = of_projection;
    UPDATE projection_rebuilds SET placed_at = now() WHERE projection = of_projection AND placed_at IS NULL;
    IF NOT FOUND OR NOT projection_rebuild_fits(of_projection) THEN
        RAISE 'the tables of % that are made anew are gone, or have other columns by now', of_projection
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    INSERT INTO projection_positions (projection, kafka_partition, generation, topic_id, next_offset)
    SELECT projection, kafka_partition, next_generation, topic_id, next_offset
    FROM projection_rebuild_positions WHERE projection = of_projection;
    IF of_projection = 'frame_history' THEN
        PERFORM projection_rebuild_days();
    ELSE
        SELECT * INTO removed, changed, added FROM projection_rebuild_merge(of_projection);
    END IF;
    PERFORM projection_rebuild_clear(of_projection);
END $$;

-- Drops what a rebuild has filled: a job's (null: any), if nobody has touched it for so long. Returns the job.
CREATE FUNCTION projection_rebuild_discard(of_projection text, of_job text, untouched interval) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    found_job text;
BEGIN
    PERFORM FROM projections WHERE name = of_projection FOR UPDATE;
    DELETE FROM projection_rebuilds AS one
    WHERE projection = of_projection AND placed_at IS NULL AND (of_job IS NULL OR job = of_job)
      AND greatest(began_at, (
          SELECT max(updated_at) FROM projection_rebuild_positions AS at WHERE at.projection = one.projection
      )) <= now() - untouched
    RETURNING job INTO found_job;
    IF FOUND THEN
        PERFORM projection_rebuild_clear(of_projection);
    END IF;
    RETURN found_job;
END $$;

REVOKE ALL ON FUNCTION
    projection_rebuild_fits(text), projection_rebuild_clear(text), projection_rebuild_begin(text, text, bigint),
    frame_history_anew_day(date), projection_rebuild_merge(text), projection_rebuild_days(),
    projection_rebuild_place(text), projection_rebuild_discard(text, text, interval)
FROM PUBLIC;
