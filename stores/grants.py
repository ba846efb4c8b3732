"""What a worker's role may do in the schema: read and write rows, and nothing to the tables."""

from stores.postgres import quoted

_GRANTS = """\
GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON {schema}.migrations, {schema}.projections TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.projection_positions TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.frames, {schema}.frame_history TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.segments, {schema}.calibration TO {role};
-- FOR SHARE, by which a writer waits for `soma projection drop`, asks for a right to update.
GRANT UPDATE (since) ON {schema}.projections TO {role};
GRANT EXECUTE ON FUNCTION {schema}.frame_history_day(date) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.frame_history_drop_before(date) TO {role};
-- The outbox's relay.
GRANT SELECT ON {schema}.outbox_events, {schema}.outbox_counts TO {role};
GRANT SELECT, UPDATE, DELETE ON {schema}.outbox_queue TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.outbox_buckets TO {role};
GRANT EXECUTE ON FUNCTION {schema}.outbox_recount(text, bigint) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.outbox_forget(timestamptz, bigint, integer) TO {role};"""


def grants_to(role: str, schema: str) -> str:
    """The statements, as the schema's owner runs them. They may be run again."""
    return _GRANTS.format(schema=quoted(schema), role=quoted(role))
