"""The statements of the outbox's relay. The schema is the session's search path.

What a shard's rows may go: pending, due, and no earlier row of their key failed or waits for its
next attempt. It is tested against the law of the turns, tests/turns.py.
"""

SHARDS = 4  # as migrations/0002_outbox.sql deals them out

SESSION = """
    SET search_path = {schema};
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET jit = off; SET plan_cache_mode = force_generic_plan; SET client_min_messages = warning
"""
# Of the session that holds the locks: one that doesn't answer (its process stands still, its host
# is gone) loses them.
KEEPER = """
    SET idle_session_timeout = '{idle_s}s'; SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3
"""

_MAY_GO = """
    q.shard = $1 AND q.tenant_id = {tenant} AND q.status = 'pending'
    AND (q.next_attempt_at IS NULL OR q.next_attempt_at <= now())
    AND (NOT {held} OR NOT EXISTS (
        SELECT FROM outbox_queue h
        WHERE h.shard = $1 AND h.tenant_id = {tenant} AND h.key_hash = q.key_hash AND h.id < q.id
          AND (h.status = 'failed' OR h.next_attempt_at > now())))
"""

# $1 shard, $2 the tenant that had the last turn, $3 places, $4 most for one tenant, $5 tenants that
# have no allowance left, $6 most tenants. One row for each tenant looked at, in turn.
PICK = f"""
WITH RECURSIVE after (tenant, n) AS (
    (SELECT q.tenant_id, 1 FROM outbox_queue q WHERE q.shard = $1 AND q.tenant_id > $2
     ORDER BY q.tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.tenant_id FROM outbox_queue q WHERE q.shard = $1 AND q.tenant_id > a.tenant
            ORDER BY q.tenant_id LIMIT 1), a.n + 1
    FROM after a WHERE a.tenant IS NOT NULL AND a.n < $6
), again (tenant, n) AS (
    (SELECT q.tenant_id, 1 FROM outbox_queue q WHERE q.shard = $1 AND q.tenant_id <= $2
     ORDER BY q.tenant_id LIMIT 1)
    UNION ALL
    SELECT (SELECT q.tenant_id FROM outbox_queue q
            WHERE q.shard = $1 AND q.tenant_id > a.tenant AND q.tenant_id <= $2
            ORDER BY q.tenant_id LIMIT 1), a.n + 1
    FROM again a WHERE a.tenant IS NOT NULL AND a.n < $6
), turns AS MATERIALIZED (
    SELECT row_number() OVER () AS turn, t.tenant FROM (
        SELECT tenant FROM after WHERE tenant IS NOT NULL
        UNION ALL SELECT tenant FROM again WHERE tenant IS NOT NULL LIMIT $6
    ) AS t
), asked AS MATERIALIZED (
    SELECT t.turn, t.tenant, EXISTS (
        SELECT FROM outbox_queue h WHERE h.shard = $1 AND h.tenant_id = t.tenant
        AND (h.status = 'failed' OR h.next_attempt_at > now())) AS held,
        t.tenant = ANY ($5::text[]) AS dry
    FROM turns t
), places AS MATERIALIZED (
    SELECT least($4, greatest(1, $3 / greatest(1, count(*)))) AS quantum FROM asked
), first AS MATERIALIZED (
    SELECT a.turn, a.tenant, a.held, CASE WHEN a.dry THEN '{{}}' ELSE ARRAY(
        SELECT q.id FROM outbox_queue q WHERE {_MAY_GO.format(tenant="a.tenant", held="a.held")}
        ORDER BY q.id LIMIT (SELECT quantum FROM places)) END AS ids
    FROM asked a
), room AS MATERIALIZED (
    SELECT least($4 - p.quantum, ($3 - sum(cardinality(f.ids)))
                 / greatest(1, count(*) FILTER (WHERE cardinality(f.ids) = p.quantum))) AS extra,
           p.quantum
    FROM first f, places p GROUP BY p.quantum
)
SELECT f.turn, f.tenant, f.held,
       CASE WHEN cardinality(f.ids) = r.quantum AND r.extra > 0 THEN f.ids || ARRAY(
           SELECT q.id FROM outbox_queue q
           WHERE q.id > f.ids[cardinality(f.ids)]
             AND {_MAY_GO.format(tenant="f.tenant", held="f.held")}
           ORDER BY q.id LIMIT r.extra)
       ELSE f.ids END AS ids,
       (SELECT n FROM outbox_batches WHERE shard = $1) AS batch
FROM first f, room r
ORDER BY f.turn
"""

# The ids are written into it: COPY takes no arguments.
FETCH = """
SELECT id, topic, tenant_id, key, dedupe_key, created_at, value, payload, headers
FROM outbox_events WHERE id = ANY ('{{{ids}}}'::bigint[]) ORDER BY id
"""

# What the rows of these ids are, in the columns of FETCH, without what they say.
NAMES = """
SELECT id, topic, tenant_id, key, dedupe_key, created_at, NULL::bytea, NULL::jsonb, NULL::jsonb
FROM outbox_events WHERE id = ANY ('{{{ids}}}'::bigint[]) ORDER BY id
"""

# How far this database is: the batches taken off, and the last id that was given out.
STANDING = """
SELECT b.shard, b.n, b.taken_at,
       (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox_events_id_seq) AS top
FROM outbox_batches b
"""

# The shard $1 goes from batch $3 to batch $4 (or stays there), and the rows $2 leave its queue. If
# it isn't at $3 nothing is changed, and no row comes back: this isn't the database that was read.
_OFF = """
WITH moved AS MATERIALIZED (
    UPDATE outbox_batches
    SET n = $4, taken_at = CASE WHEN n < $4 THEN clock_timestamp() ELSE taken_at END
    WHERE shard = $1 AND n = $3 RETURNING shard
), sent AS (
    DELETE FROM outbox_queue q USING moved WHERE q.shard = $1 AND q.id = ANY ($2::bigint[])
)
"""
SENT = f"{_OFF} SELECT shard FROM moved"

# $5 ids, $6 whether for good, $7 errors, $8 retries at most, $9 seconds of the first, $10 the most.
REFUSED = f"""
{_OFF}, refused AS (
    UPDATE outbox_queue q
    SET status = CASE WHEN b.final OR q.retries >= $8 THEN 'failed' ELSE 'pending' END,
        retries = q.retries + CASE WHEN b.final OR q.retries >= $8 THEN 0 ELSE 1 END,
        next_attempt_at = CASE WHEN b.final OR q.retries >= $8 THEN NULL ELSE clock_timestamp()
            + make_interval(secs => least($10, $9 * power(2, q.retries)) * (0.5 + random() / 2))
            END,
        last_error = b.error
    FROM moved, unnest($5::bigint[], $6::boolean[], $7::text[]) AS b (id, final, error)
    WHERE q.shard = $1 AND q.id = b.id AND q.status = 'pending'
    RETURNING q.id, q.status
)
SELECT r.id, r.status FROM moved LEFT JOIN refused r ON true
"""

# $1 tenants, $2 how many rows each would send, $3 the allowance a minute. What each may send, taken
# off its bucket. Buckets are locked in the order of their names, so that relays don't deadlock.
RESERVE = """
WITH asked AS (
    SELECT * FROM unnest($1::text[], $2::bigint[]) AS a (tenant, wanted)
), held AS MATERIALIZED (
    SELECT b.tenant_id, a.wanted, least($3::float8, b.tokens + $3::float8 / 60 * greatest(0,
           extract(epoch FROM clock_timestamp() - b.refilled_at)::float8)) AS tokens
    FROM outbox_buckets b JOIN asked a ON a.tenant = b.tenant_id
    ORDER BY b.tenant_id FOR UPDATE OF b
), granted AS (
    SELECT tenant_id, tokens, greatest(0, least(wanted, floor(tokens)))::bigint AS may FROM held
), spent AS (
    UPDATE outbox_buckets b SET tokens = g.tokens - g.may, refilled_at = clock_timestamp()
    FROM granted g WHERE b.tenant_id = g.tenant_id
), begun AS (
    INSERT INTO outbox_buckets (tenant_id, tokens)
    SELECT tenant, $3::float8 - least(wanted, $3::float8) FROM asked
    WHERE tenant NOT IN (SELECT tenant_id FROM granted) ORDER BY tenant
    ON CONFLICT DO NOTHING RETURNING tenant_id
)
SELECT tenant_id, may FROM granted
UNION ALL
SELECT a.tenant, least(a.wanted, $3::float8)::bigint
FROM asked a JOIN begun b ON b.tenant_id = a.tenant
"""

# Who holds what: a number below SHARDS is a shard, PRESENT is there once for each relay.
LOCKS = f"""
SELECT objid::bigint FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2
  AND (objid < {SHARDS} OR objid = {{present}})
  AND classid = outbox_lock_class()::oid
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
TAKE = "SELECT pg_try_advisory_lock(outbox_lock_class(), $1)"
LEAVE = "SELECT pg_advisory_unlock(outbox_lock_class(), $1)"
# Of the session that waits for it.
PATIENT = "SET search_path = {schema}; SET lock_timeout = '{wait_s}s'"
ALONE = "SELECT pg_advisory_lock(outbox_lock_class(), $1)"
PRESENT = "SELECT pg_advisory_lock_shared(outbox_lock_class(), {present})"

# Shards (of $1) in which something pends that is due. What would wait for more than $2 seconds, the
# longest that a row is told to, was told by a clock that was ahead: it is due.
WAITING = """
WITH soon AS (
    UPDATE outbox_queue q SET next_attempt_at = now()
    WHERE q.shard = ANY ($1::smallint[]) AND q.status = 'pending'
      AND q.next_attempt_at > now() + make_interval(secs => $2)
    RETURNING q.shard
)
SELECT shard AS s FROM soon UNION SELECT s FROM unnest($1::smallint[]) AS s WHERE EXISTS (
    SELECT FROM outbox_queue q WHERE q.shard = s AND q.status = 'pending'
    AND (q.next_attempt_at IS NULL OR q.next_attempt_at <= now()))
"""
RECOUNT = "SELECT count(outbox_recount(tenant_id)) FROM outbox_counts WHERE refused"
FORGET = """
SELECT gone, looked, last_id FROM outbox_forget(now() - make_interval(secs => 86400 * $1), $2, $3)
"""
# Of the shards $1: rows that pend, the age of the oldest, keys that a failed row holds back.
STATE = """
SELECT (SELECT count(*) FROM outbox_queue q
        WHERE q.shard = ANY ($1::smallint[]) AND q.status = 'pending') AS pending,
       greatest(0, extract(epoch FROM now() - (
           SELECT min(o.created_at) FROM unnest($1::smallint[]) AS s CROSS JOIN LATERAL (
               SELECT q.created_at FROM outbox_queue q WHERE q.shard = s AND q.status = 'pending'
               ORDER BY q.id LIMIT 1) AS o)))::float8 AS oldest_s,
       (SELECT count(*) FROM (SELECT DISTINCT q.tenant_id, q.key_hash FROM outbox_queue q
        WHERE q.shard = ANY ($1::smallint[]) AND q.status = 'failed') AS k) AS blocked
"""
