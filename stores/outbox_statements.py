"""The statements of stores/outbox.py; `SCHEMA` stands for the quoted schema."""

from typing import Literal

SHOWN_MAX = 4096  # bytes; of a larger payload only its size is listed

ADD = """
    SELECT id, duplicate, differs FROM SCHEMA.soma_outbox_add_many(
        $1::text[], $2::text[], $3::text[]::jsonb[], $4::text[], $5::text[], $6::text[]::jsonb[]
    ) ORDER BY n
"""
# Asked of each payload, once a statement has failed.
VALID = "SELECT pg_input_is_valid($1, 'jsonb')"
AUDIT = "INSERT INTO SCHEMA.audit (actor, action, tenant, detail) VALUES ($1, $2, $3, $4::jsonb)"
AUDITED = """
    SELECT id, ts, actor, action, tenant, detail::text AS detail FROM SCHEMA.audit
    WHERE id < $1 ORDER BY id DESC LIMIT $2
"""

_COLUMNS = f"""
    e.id, e.created_at, e.topic, e.tenant_id AS tenant, e.key, e.shard, e.dedupe_key,
    e.headers::text AS headers,
    CASE WHEN octet_length(e.payload::text) <= {SHOWN_MAX} THEN e.payload::text END AS payload,
    coalesce(octet_length(e.payload::text), octet_length(e.value)) AS bytes
"""
_WAITING = f"""
    SELECT {_COLUMNS}, q.status, q.retries, q.next_attempt_at, q.last_error
    FROM SCHEMA.outbox_queue q JOIN SCHEMA.outbox_events e ON e.id = q.id
    WHERE q.status = $1 {{}} ORDER BY q.created_at, q.id LIMIT $2 OFFSET $3
"""
_SKIPPED = f"""
    SELECT {_COLUMNS}, $1::text AS status, 0 AS retries, NULL::timestamptz AS next_attempt_at,
           s.last_error
    FROM SCHEMA.outbox_skipped s JOIN SCHEMA.outbox_events e ON e.id = s.id
    WHERE true {{}} ORDER BY e.id DESC LIMIT $2 OFFSET $3
"""
_SENT = f"""
    SELECT {_COLUMNS}, $1::text AS status, 0 AS retries, NULL::timestamptz AS next_attempt_at,
           NULL::text AS last_error
    FROM SCHEMA.outbox_events e
    WHERE NOT EXISTS (SELECT FROM SCHEMA.outbox_queue q WHERE q.shard = e.shard AND q.id = e.id)
      AND NOT EXISTS (SELECT FROM SCHEMA.outbox_skipped s WHERE s.id = e.id)
      {{}} ORDER BY e.id DESC LIMIT $2 OFFSET $3
"""
_ALL = f"""
    SELECT {_COLUMNS}, coalesce(q.status, CASE WHEN s.id IS NULL THEN 'sent' ELSE 'skipped' END,
           $1::text) AS status,
           coalesce(q.retries, 0) AS retries, q.next_attempt_at,
           coalesce(q.last_error, s.last_error) AS last_error
    FROM SCHEMA.outbox_events e
    LEFT JOIN SCHEMA.outbox_queue q ON q.shard = e.shard AND q.id = e.id
    LEFT JOIN SCHEMA.outbox_skipped s ON s.id = e.id
    WHERE true {{}} ORDER BY e.id DESC LIMIT $2 OFFSET $3
"""

# One pass over the queue. A tenant's oldest is of what is pending.
_BY_TENANT = """
    SELECT q.tenant_id AS tenant, count(*) FILTER (WHERE q.status = 'pending') AS pending,
           count(*) FILTER (WHERE q.status = 'failed') AS failed,
           min(q.created_at) FILTER (WHERE q.status = 'pending') AS oldest
    FROM SCHEMA.outbox_queue q GROUP BY q.tenant_id
"""
SUMMARY = f"""
    WITH by_tenant AS MATERIALIZED ({_BY_TENANT}),
    top AS (SELECT * FROM by_tenant ORDER BY pending + failed DESC, tenant LIMIT $1)
    SELECT tenant, pending, failed,
           greatest(0, extract(epoch FROM clock_timestamp() - oldest))::float8 AS oldest_age_s,
           coalesce((SELECT c.refused FROM SCHEMA.outbox_counts c WHERE c.tenant_id = tenant
                     ORDER BY c.n DESC LIMIT 1), false) AS refused,
           (SELECT l.max_pending FROM SCHEMA.outbox_limits l WHERE l.tenant_id IN (tenant, '*')
            ORDER BY l.tenant_id = '*' LIMIT 1) AS max_pending
    FROM top
    UNION ALL
    SELECT NULL, coalesce(sum(pending), 0)::bigint, coalesce(sum(failed), 0)::bigint,
           greatest(0, extract(epoch FROM clock_timestamp() - min(oldest)))::float8, false, count(*)
    FROM by_tenant
"""
# Events that are kept are counted up to here; beyond it the server's estimate is near enough. (Of
# living rows it has none after a crash, until the table is vacuumed or analysed.)
COUNTED_MAX = 10_000
TOTALS = f"""
    SELECT (SELECT count(*) FROM SCHEMA.outbox_skipped) AS skipped,
           CASE WHEN counted.n <= {COUNTED_MAX} THEN counted.n
                ELSE greatest(counted.n, coalesce(nullif(pg_stat_get_live_tuples(c.oid), 0),
                                                  c.reltuples::bigint)) END AS kept
    FROM pg_class c, (
        SELECT count(*) AS n FROM (SELECT FROM SCHEMA.outbox_events LIMIT {COUNTED_MAX + 1}) AS e
    ) AS counted
    WHERE c.oid = to_regclass('SCHEMA.outbox_events')
"""
CHECK = f"""
    SELECT tenant, pending, failed,
           greatest(0, extract(epoch FROM clock_timestamp() - oldest))::float8 AS oldest_age_s
    FROM ({_BY_TENANT}) AS by_tenant
"""

# No event leaves for its age while these come back.
STAY = "SELECT pg_advisory_xact_lock(SCHEMA.outbox_lock_class(), 201)"
# What stands where, of the ids asked for; locked, so that it stays so until the end.
STANDING = """
    SELECT e.id, e.shard, e.tenant_id AS tenant, e.created_at, q.status, s.id IS NOT NULL AS skipped
    FROM SCHEMA.outbox_events e
    LEFT JOIN SCHEMA.outbox_queue q ON q.shard = e.shard AND q.id = e.id
    LEFT JOIN SCHEMA.outbox_skipped s ON s.id = e.id
    WHERE e.id = ANY ($1::bigint[]) ORDER BY e.id FOR UPDATE OF e
"""
REPLAY_FAILED = """
    UPDATE SCHEMA.outbox_queue q SET status = 'pending', retries = 0, next_attempt_at = NULL
    FROM SCHEMA.outbox_events e
    WHERE e.id = ANY ($1::bigint[]) AND q.shard = e.shard AND q.id = e.id AND q.status = 'failed'
    RETURNING q.id
"""
REPLAY_SKIPPED = """
    WITH back AS (DELETE FROM SCHEMA.outbox_skipped WHERE id = ANY ($1::bigint[]) RETURNING id)
    INSERT INTO SCHEMA.outbox_queue (shard, id, tenant_id, key_hash, created_at)
    SELECT e.shard, e.id, e.tenant_id, SCHEMA.outbox_key_hash(e.tenant_id, e.key), e.created_at
    FROM SCHEMA.outbox_events e JOIN back ON back.id = e.id RETURNING id
"""
# A new id: the shard's receipt may still list the old one as sent, and an owner would take it off.
REPLAY_SENT = """
    WITH renumbered AS (
        UPDATE SCHEMA.outbox_events e SET id = nextval('SCHEMA.outbox_events_id_seq')
        FROM (SELECT id AS was FROM unnest($1::bigint[]) AS id ORDER BY id) AS those
        WHERE e.id = those.was
          AND NOT EXISTS (SELECT FROM SCHEMA.outbox_queue q WHERE q.shard = e.shard AND q.id = e.id)
        RETURNING e.id, those.was, e.shard, e.tenant_id, e.key
    ), queued AS (
        INSERT INTO SCHEMA.outbox_queue (shard, id, tenant_id, key_hash, created_at)
        SELECT shard, id, tenant_id, SCHEMA.outbox_key_hash(tenant_id, key), clock_timestamp()
        FROM renumbered
    )
    SELECT was, id FROM renumbered ORDER BY was
"""
SKIP = """
    WITH gone AS (
        DELETE FROM SCHEMA.outbox_queue q USING SCHEMA.outbox_events e
        WHERE e.id = ANY ($1::bigint[]) AND q.shard = e.shard AND q.id = e.id
          AND q.status = 'failed'
        RETURNING q.id, q.last_error
    )
    INSERT INTO SCHEMA.outbox_skipped (id, actor, last_error)
    SELECT id, $2, last_error FROM gone RETURNING id
"""
# Relays that sleep look again; those awake find the rows by themselves. (See outbox_wake.)
WAKE = """
    SELECT pg_notify($1, shard::text) FROM unnest($2::integer[]) AS shard
    WHERE pg_notification_queue_usage() < 0.5
"""

LIMITS = "SELECT tenant_id, max_pending FROM SCHEMA.outbox_limits ORDER BY tenant_id LIMIT 10000"
LIMIT = """
    INSERT INTO SCHEMA.outbox_limits (tenant_id, max_pending) VALUES ($1, $2)
    ON CONFLICT (tenant_id) DO UPDATE SET max_pending = excluded.max_pending
"""
UNLIMIT = "DELETE FROM SCHEMA.outbox_limits WHERE tenant_id = $1"
# After another limit what was counted says nothing: the next to add counts again.
UNCOUNT = "DELETE FROM SCHEMA.outbox_counts WHERE $1::text IN (tenant_id, '*')"

_LISTS = {"pending": _WAITING, "failed": _WAITING, "skipped": _SKIPPED, "sent": _SENT, None: _ALL}

Match = Literal["", "same", "prefix"]


def listing(
    status: str | None, tenant: bool, topic: Match, before: bool = False, oldest: bool = False
) -> str:
    """The statement for a list. $1 status, $2 limit, $3 offset, then tenant, topic, before."""
    indexed = "q" if status in {"pending", "failed"} else "e"
    conditions: list[str] = []
    for wanted, text in (
        (tenant, indexed + ".tenant_id = ${}"),
        (topic == "same", "e.topic = ${}"),
        (topic == "prefix", "starts_with(e.topic, ${})"),
        (before, indexed + ".created_at < ${}"),
    ):
        if wanted:
            conditions.append("AND " + text.format(4 + len(conditions)))
    text = _LISTS[status].format(" ".join(conditions))
    return text.replace("ORDER BY e.id DESC", "ORDER BY e.id") if oldest else text
