-- What the projections keep: the last frame of each tenant, a sample of all frames, segments, calibrations.
-- Every table has the fields of its records' schema (avro/) under their names, and the record's place in Kafka.

-- A projection is dropped and rebuilt by command; each time it is another generation, so that whoever
-- still writes for an older one notices. A dropped one is left alone until it is rebuilt.
CREATE TABLE projections (
    name       text PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 1,
    dropped    boolean NOT NULL DEFAULT false,
    since      timestamptz NOT NULL DEFAULT now()
);

INSERT INTO projections (name) VALUES ('frames'), ('frame_history'), ('segments'), ('calibration');

-- Up to where a projection holds a partition. Written in the transaction of the rows, and only by an owner
-- who knows what it was: of two owners one writes, the other looks again.
CREATE TABLE projection_positions (
    projection      text NOT NULL REFERENCES projections (name),
    kafka_partition integer NOT NULL CHECK (kafka_partition >= 0),
    generation      bigint NOT NULL,
    topic_id        text NOT NULL,
    next_offset     bigint NOT NULL CHECK (next_offset >= 0),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, kafka_partition)
) WITH (fillfactor = 50);

-- The last frame of each tenant (of the topic with this id, at the highest offset).
CREATE TABLE frames (
    frame_id        text NOT NULL,
    tenant          text PRIMARY KEY,
    ts              timestamptz NOT NULL,
    domain          text NOT NULL,
    leader          text NOT NULL,
    weights         jsonb NOT NULL,
    errors          jsonb NOT NULL,
    confidence      double precision NOT NULL,
    entropy         double precision NOT NULL,
    regret_bound    double precision NOT NULL,
    dwell_ms        bigint NOT NULL,
    veto            text NOT NULL,
    rationale       text NOT NULL,
    observation_id  text NOT NULL,
    config_version  bigint NOT NULL,
    topic_id        text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    log_time        timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Frames sampled by SOMA_PROJECTIONS__HISTORY, one partition a day of log time (UTC). Of the frames of a tenant
-- with one slot the first is kept; where all or every n-th are kept, the slot is the log time and seq the offset.
CREATE TABLE frame_history (
    LIKE frames,
    slot timestamptz NOT NULL,
    seq  bigint NOT NULL,
    PRIMARY KEY (tenant, slot, seq)
) PARTITION BY RANGE (slot);

-- The partition of a day, made when its first frame comes. It is made beside the table and then attached,
-- which locks out nobody who reads or writes other days. Owner's rights: a worker's role can't make tables.
CREATE FUNCTION frame_history_day(day date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    name text := 'frame_history_' || to_char(day, 'YYYYMMDD');
BEGIN
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock('frame_history'::regclass::oid::bigint);
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE frame_history INCLUDING ALL)', name);
    EXECUTE format(
        'ALTER TABLE frame_history ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        name, day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
    );
END $$;

-- Drops the days before this one; returns their names.
CREATE FUNCTION frame_history_drop_before(day date) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock('frame_history'::regclass::oid::bigint);
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'frame_history'::regclass
          AND c.relname < 'frame_history_' || to_char(day, 'YYYYMMDD')
        ORDER BY 1
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        RETURN NEXT name;
    END LOOP;
END $$;

REVOKE ALL ON FUNCTION frame_history_day(date), frame_history_drop_before(date) FROM PUBLIC;

CREATE TABLE segments (
    segment_id      text PRIMARY KEY,
    tenant          text NOT NULL,
    domain          text NOT NULL,
    boundary_ts     timestamptz NOT NULL,
    detected_ts     timestamptz NOT NULL,
    dwell_ms        bigint NOT NULL,
    evidence        text NOT NULL,
    score           double precision NOT NULL,
    frame_id        text NOT NULL,
    start_ts        timestamptz NOT NULL,
    frames          bigint NOT NULL,
    leader          text NOT NULL,
    mean_error      double precision NOT NULL,
    mean_confidence double precision NOT NULL,
    peak_error      double precision NOT NULL,
    topic_id        text NOT NULL,
    kafka_partition integer NOT NULL,
    kafka_offset    bigint NOT NULL,
    log_time        timestamptz NOT NULL
);

CREATE INDEX segments_of_tenant ON segments (tenant, boundary_ts);

-- Every refit of a predictor's calibration: figures and reliability bins of the held-out samples.
CREATE TABLE calibration (
    tenant              text NOT NULL,
    domain              text NOT NULL,
    ts                  timestamptz NOT NULL,
    observation_id      text NOT NULL,
    temperature         double precision NOT NULL,
    previous            double precision NOT NULL,
    fitted              double precision NOT NULL,
    kept                boolean NOT NULL,
    samples             bigint NOT NULL,
    ece_pre             double precision NOT NULL,
    ece_post            double precision NOT NULL,
    brier_pre           double precision NOT NULL,
    brier_post          double precision NOT NULL,
    nll_pre             double precision NOT NULL,
    nll_post            double precision NOT NULL,
    bin_count           bigint[] NOT NULL,
    bin_confidence      double precision[] NOT NULL,
    bin_accuracy        double precision[] NOT NULL,
    bin_count_post      bigint[] NOT NULL,
    bin_confidence_post double precision[] NOT NULL,
    bin_accuracy_post   double precision[] NOT NULL,
    topic_id            text NOT NULL,
    kafka_partition     integer NOT NULL,
    kafka_offset        bigint NOT NULL,
    log_time            timestamptz NOT NULL,
    PRIMARY KEY (tenant, domain, ts, observation_id)
);
