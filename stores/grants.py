"""What a role may do in the schema: a worker, a relay, the API process, a service that adds, one
who reads a tenant's memories.
"""

import hashlib
from typing import Literal, get_args

from stores.names import quoted

Purpose = Literal["worker", "relay", "api", "writer", "reader"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

_ADDING = """\
GRANT EXECUTE ON FUNCTION {schema}.soma_outbox_add(text, text, jsonb, text, text, jsonb) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.soma_outbox_add_avro(text, text, bytea, text, text, jsonb)
    TO {role};
GRANT EXECUTE ON FUNCTION
    {schema}.soma_outbox_add_many(text[], text[], jsonb[], text[], text[], jsonb[]) TO {role};"""

_RELAYING = """\
GRANT SELECT ON {schema}.outbox_events, {schema}.outbox_counts TO {role};
GRANT SELECT, UPDATE, DELETE ON {schema}.outbox_queue TO {role};
GRANT SELECT, UPDATE ON {schema}.outbox_batches TO {role};
GRANT SELECT ON SEQUENCE {schema}.outbox_events_id_seq TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.outbox_buckets TO {role};
GRANT EXECUTE ON FUNCTION {schema}.outbox_recount(text, bigint) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.outbox_forget(timestamptz, bigint, integer) TO {role};"""

_PROJECTING = """\
GRANT SELECT, INSERT, UPDATE ON {schema}.projection_positions TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.frames, {schema}.frame_history TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.segments, {schema}.calibration TO {role};
-- FOR SHARE, by which a writer waits for `soma projection drop`, asks for a right to update.
GRANT UPDATE (since) ON {schema}.projections TO {role};
GRANT EXECUTE ON FUNCTION {schema}.frame_history_day(date) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.frame_history_drop_before(date) TO {role};"""

NAME_BYTES = 63  # of a name in PostgreSQL, which cuts off what is beyond them
DIGITS = 16  # of a name's digest

# Without a policy of its own a role sees no memory. A tombstone takes rows away.
_REMEMBERING = """\
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.memories TO {role};
GRANT EXECUTE ON FUNCTION {schema}.memory_words(jsonb) TO {role};
{former}DROP POLICY IF EXISTS {policy} ON {schema}.memories;
CREATE POLICY {policy} ON {schema}.memories TO {role} USING (true) WITH CHECK (true);"""

# Of the tenant that the process names for each question; it is trusted to ask for whom it may.
_RECALLING = """\
GRANT SELECT ON {schema}.memories, {schema}.projections, {schema}.projection_positions TO {role};
GRANT EXECUTE ON FUNCTION {schema}.memory_matches(
    text, text, integer, text, text, timestamptz, timestamptz, jsonb) TO {role};
{former}DROP POLICY IF EXISTS {policy} ON {schema}.memories;
CREATE POLICY {policy} ON {schema}.memories FOR SELECT TO {role}
    USING (tenant = current_setting('soma.tenant', true));"""

_READING = """\
GRANT SELECT ON {schema}.memories, {schema}.memories_now TO {role};
{former}DROP POLICY IF EXISTS {policy} ON {schema}.memories;
CREATE POLICY {policy} ON {schema}.memories FOR SELECT TO {role} USING (tenant = {tenant});"""

# A projection made anew by a job: the owner's functions make its tables, and put them in place.
_REBUILDING = """\
GRANT SELECT, UPDATE (began_at) ON {schema}.projection_rebuilds TO {role};
GRANT SELECT, INSERT, UPDATE ON {schema}.projection_rebuild_positions TO {role};
GRANT EXECUTE ON FUNCTION {schema}.projection_rebuild_begin(text, text, bigint) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.projection_rebuild_place(text) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.projection_rebuild_discard(text, text, interval) TO {role};
GRANT EXECUTE ON FUNCTION {schema}.frame_history_anew_day(date) TO {role};"""

# The events' ids change when they are sent again; nothing else of them does. The audit only grows.
_ADMINISTERING = """\
GRANT SELECT ON {schema}.outbox_events, {schema}.outbox_counts, {schema}.audit TO {role};
GRANT UPDATE (id) ON {schema}.outbox_events TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.outbox_queue TO {role};
GRANT SELECT, INSERT, DELETE ON {schema}.outbox_skipped TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.outbox_limits TO {role};
GRANT DELETE ON {schema}.outbox_counts TO {role};
GRANT INSERT ON {schema}.audit TO {role};
GRANT USAGE ON SEQUENCE {schema}.outbox_events_id_seq, {schema}.audit_id_seq TO {role};"""

_COMMITTING = """\
GRANT SELECT, INSERT, UPDATE ON {schema}.matrices TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.matrix_commits TO {role};"""

_SCHEMA = "GRANT USAGE ON SCHEMA {schema} TO {role};"
_VERSION = "GRANT SELECT ON {schema}.migrations TO {role};"
_VERSIONS = "GRANT SELECT ON {schema}.migrations, {schema}.projections TO {role};"

_GRANTS: dict[Purpose, tuple[str, ...]] = {
    "worker": (_SCHEMA, _VERSIONS, _PROJECTING, _REMEMBERING, _REBUILDING, _RELAYING),
    "relay": (_SCHEMA, _VERSION, _RELAYING),
    "api": (_SCHEMA, _VERSION, _ADDING, _ADMINISTERING, _COMMITTING, _RECALLING),
    "writer": (_SCHEMA, _ADDING),
    "reader": (_SCHEMA, _READING),
}


def grants_to(role: str, schema: str, purpose: Purpose = "worker", tenant: str = "") -> str:
    """The statements, as the schema's owner runs them. They may be run again.

    A worker relays too. A writer may add events, and read or change nothing. A reader sees the
    memories of `tenant`.
    """
    return "\n".join(_GRANTS[purpose]).format(
        schema=quoted(schema), role=quoted(role), policy=quoted(policy_of(role, purpose)),
        former=_former(role, schema, purpose), tenant=_literal(tenant),
    )  # fmt: skip


def policy_of(role: str, purpose: Purpose) -> str:
    """The name of a role's policy: no other role's, however long their names are."""
    name = f"{purpose} {role}"
    if len(name.encode()) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(role.encode()).hexdigest()[:DIGITS]
    begin = f"{purpose}: {digest} "  # no short one begins like it
    return begin + role.encode()[: NAME_BYTES - len(begin)].decode(errors="ignore")


def _former(role: str, schema: str, purpose: Purpose) -> str:
    """Drops what was granted under a name that PostgreSQL cut off, if it is this role's."""
    name = f"{purpose} {role}"
    if len(name.encode()) <= NAME_BYTES:
        return ""
    body = (
        f"BEGIN IF EXISTS (SELECT FROM pg_policies WHERE schemaname = {_literal(schema)}::name "
        f"AND tablename = 'memories' AND policyname = {_literal(name)}::name "
        f"AND roles = ARRAY[{_literal(role)}::name]) "
        f"THEN DROP POLICY {quoted(name)} ON {quoted(schema)}.memories; END IF; END"
    )
    return f"DO {_literal(body)};\n"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
