"""`soma doctor`: looks at everything the project needs here, and names what is wrong."""

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from agents.settings import SettingsError, load
from agents.tools.open_transactions import data, said, standing
from agents.tools.output import counted
from ops.stack import StackError
from ops.stack.jars import executable, java
from stores import migrations
from stores.errors import StoreDown
from stores.migrations import MigrationError, Step
from stores.names import schema_of
from topics import preflight
from topics.broker import BrokerError
from topics.registry import RegistryError, chosen
from topics.schemas import schemas

if TYPE_CHECKING:
    from agents.settings import Settings

ANSWER_S = 5.0
QUEUE_MAX = 0.5  # from here on the outbox doesn't notify (migrations/0004_outbox_clock.sql)
POSTGRES = """
    SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby,
           current_setting('transaction_read_only') = 'on' AS read_only,
           (SELECT source FROM pg_settings WHERE name = 'default_transaction_read_only') AS source,
           pg_notification_queue_usage() AS queue
"""
# What can't be looked at while other things aren't well.
BEHIND = {
    "topics": (("kafka",), ", since no broker answers"),
    "open": (("kafka",), ", since no broker answers"),
    "groups": (("kafka",), ", since no broker answers"),
    "schema": (("postgres",), ", since no PostgreSQL answers"),
    "outbox": (("topics", "schema"), " without topics and schema"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `detail` says what is there, or what is wrong."""

    what: str
    well: bool
    detail: str


@click.command()
@click.option("--hanging", is_flag=True, help="Only list transactions that stay open.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
def doctor(hanging: bool, json_: bool) -> None:
    """Look at programs, servers and topics; fails when something is wrong.

    A transaction that stays open holds up everybody who reads its partition: --hanging lists all
    that have been open for 10 s, with their producers; `soma topics abort-transaction` ends one.

    \b
    Example:
      soma doctor
      soma doctor --hanging
    """
    if hanging:
        _list_hanging(load(), json_)
        return
    findings = examine(load())
    if json_:
        click.echo(json.dumps([asdict(one) for one in findings]))
    for one in findings if not json_ else ():
        mark = click.style("well ", fg="green") if one.well else click.style("WRONG", fg="red")
        click.echo(f"{mark} {one.what:9} {one.detail}")
    if not all(one.well for one in findings):
        raise click.exceptions.Exit(1)


def examine(settings: "Settings") -> list[Finding]:
    """Every finding, in the order in which it makes sense to mend them."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("kafka", lambda: _kafka(settings)),
        ("topics", lambda: _topics(settings)),
        ("open", lambda: _open(settings)),
        ("groups", lambda: _groups(settings)),
        ("redis", lambda: _redis(settings)),
        ("postgres", lambda: _postgres(settings)),
        ("schema", lambda: _schema(settings)),
        ("outbox", lambda: _outbox(settings)),
        ("cognition", lambda: _cognition(settings)),
    ]
    if chosen() is not None:
        checks.append(("registry", _registry))
    if settings.memory_http_endpoint:
        checks.append(("memory", lambda: _memory(settings)))
    if settings.policy_dir is not None or settings.opa_url:
        checks.append(("policy", lambda: _policy(settings)))
    if settings.local or not settings.kafka_bootstrap:
        programs: list[tuple[str, Callable[[], str]]] = [
            ("java", java),
            ("maven", lambda: executable("mvn", "Maven", "maven")),
        ]
        checks = programs + checks
    found: dict[str, Finding] = {}
    for what, check in checks:
        needed, lacking = BEHIND.get(what, ((), ""))
        if all(found[one].well for one in needed):
            found[what] = _examined(what, check)
        else:  # a silent server wouldn't answer this either, as slowly
            found[what] = Finding(what, False, f"not looked at{lacking}")
    if (api := _api(settings)) is not None:
        found["api"] = api
    return list(found.values())


def _examined(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except (SettingsError, StackError, BrokerError, MigrationError, StoreDown) as error:
        return Finding(what, False, str(error))


def _kafka(settings: "Settings") -> str:
    try:
        found = AdminClient(settings.librdkafka()).list_topics(timeout=ANSWER_S)
    except KafkaException as error:
        raise _silent("Kafka", settings.bootstrap(), error.args[0].str()) from error
    return f"{settings.bootstrap()}, {counted(len(found.brokers), 'broker')}"


def _topics(settings: "Settings") -> str:
    differences = preflight.plan(settings)
    if differences:
        raise SettingsError(f"differ from the catalogue; {differing(differences)}")
    return "as the catalogue wants them"


def _open(settings: "Settings") -> str:
    """Transactions that stay open."""
    if found := standing(settings):
        lines = "\n".join(f"      {said(one)}" for one in found)
        raise SettingsError(
            f"{counted(len(found), 'open transaction')}; "
            f"`soma topics abort-transaction` ends one:\n{lines}"
        )
    return "no transaction stays open"


def _groups(settings: "Settings") -> str:
    """Who is in the groups of services: they let anybody in who knows their names."""
    from aiokafka.errors import KafkaError

    from agents.services.strangers import strangers  # clients: when they are used

    try:
        found = asyncio.run(strangers(settings, ANSWER_S))
    except (KafkaError, OSError, ValueError) as error:  # the time's end too
        why = "no answer in time" if isinstance(error, TimeoutError) else error
        raise SettingsError(f"can't be looked at: {why}") from error
    if found:
        raise SettingsError("\n      ".join(found))
    return "nobody else is in the groups of services"


def _cognition(settings: "Settings") -> str:
    """Which processors of an installation don't act, for it is off; that is no error."""
    from agents.settings.reading import (  # the engine: when it is used
        cognition_off,
        without_cognition,
    )

    if off := without_cognition(settings):
        return (
            f"off: {cognition_off(off)}; "
            "SOMA_ENABLE_COG_THREADS=1 switches it on, `soma config set TENANT cognition on "
            "--processor NAME` for a tenant"
        )
    return "on"


def _list_hanging(settings: "Settings", json_: bool) -> None:
    try:
        found = standing(settings)
    except (BrokerError, SettingsError) as error:
        raise click.ClickException(str(error)) from error
    if json_:
        click.echo(json.dumps([data(one) for one in found]))
    for one in found if not json_ else ():
        click.echo(said(one))
    if not found and not json_:
        click.echo("No transaction stays open.", err=True)
    if found:
        raise click.exceptions.Exit(1)


def differing(differences: list[preflight.Difference]) -> str:
    """What `soma topics apply` mends of them, behind what it can't and what therefore stops it."""
    stuck = [one for one in differences if not one.fixable]
    mends = "`soma topics apply` mends" if not stuck else "and then `soma topics apply` mends"
    parts = (
        ("`soma topics apply` can't mend", stuck),
        (mends, [one for one in differences if one.fixable]),
    )
    return "\n      ".join(
        f"{what}:" + "".join(f"\n      {one}" for one in some) for what, some in parts if some
    )


def _redis(settings: "Settings") -> str:
    from stores.frame_cache import FrameCache

    try:
        with closing(FrameCache(settings.redis())) as cache:
            return f"version {cache.version()}"
    except (StoreDown, ValueError) as error:
        raise _silent("Redis", "SOMA_REDIS_URL", error) from error


def _postgres(settings: "Settings") -> str:
    from stores.postgres import connected  # clients: when they are used

    async def look() -> Any:
        async with connected(settings.postgres(), "soma doctor", ANSWER_S) as connection:
            return await connection.fetchrow(POSTGRES)

    try:
        found = asyncio.run(look())
    except StoreDown as error:
        raise _silent("PostgreSQL", "SOMA_POSTGRES_DSN", error) from error
    if found["standby"]:
        raise SettingsError("takes no writes: it is a standby; SOMA_POSTGRES_DSN names the primary")
    if found["read_only"]:
        raise SettingsError(
            f"takes no writes: default_transaction_read_only is on (set by: {found['source']})"
        )
    if found["queue"] >= QUEUE_MAX:
        raise SettingsError(
            f"its NOTIFY queue is {found['queue']:.0%} full: a session that listens stands still in"
            " its transaction (`idle in transaction` in pg_stat_activity); events wait 2 s longer"
        )
    return f"version {found['version']}, takes writes"


def _api(settings: "Settings") -> Finding | None:
    """What a `soma api` that runs here says: its sessions may be older than what a new one sees."""
    import httpx

    where = f"{settings.api.host}:{settings.api.port}"
    try:
        answer = httpx.get(f"http://{where}/readyz", timeout=ANSWER_S, trust_env=False).json()
        state, parts = answer["status"], answer["dependencies"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError):
        return None
    down = ", ".join(name for name, said in parts.items() if said != "up")
    detail = f"{where} is {state}" + (f", without {down}" if down else "")
    return Finding("api", state == "ready", detail)


def _registry() -> str:
    """Whether the schema registry has our schemas, by the ids that are in use."""
    from topics.registered import RegisteredSchemas

    known = schemas()
    assert isinstance(known, RegisteredSchemas)
    try:
        known.ask(anew=True)
    except RegistryError as error:
        raise SettingsError(str(error)) from error
    return f"{known.access.url} has all {len(known.all())} schemas, by the ids that are in use"


def _memory(settings: "Settings") -> str:
    from stores.memory_remote import MemoryRemote

    async def well() -> bool:
        token = settings.memory_http_token.get_secret_value()
        remote = MemoryRemote(settings.memory_http_endpoint, ANSWER_S, 1, token)
        try:
            return await remote.health()
        finally:
            await remote.close()

    if not asyncio.run(well()):
        raise SettingsError(
            f"the remote memory service (SOMA_MEMORY_HTTP_ENDPOINT {settings.memory_http_endpoint})"
            " doesn't answer at /healthz; events for it wait in memory.events"
        )
    return f"{settings.memory_http_endpoint} answers"


def _policy(settings: "Settings") -> str:
    """The policy as a worker would use it."""
    from agents.policy.policies import policy_of  # the engine: when it is used

    if not settings.opa_url:
        found = policy_of(settings)
        assert found is not None
        return f"{settings.policy_dir} is fit for use, digest {found.digest}"
    if why := asyncio.run(_opa_error(settings)):
        raise SettingsError(f"the OPA server (SOMA_OPA_URL) gives no decision: {why}")
    if why := asyncio.run(_access_error(settings)):
        refused = "lets every write pass" if settings.opa_fail_open else "refuses every write"
        return f"the OPA server (SOMA_OPA_URL) answers; but `soma api` {refused}: {why}"
    return "the OPA server (SOMA_OPA_URL) answers"


async def _opa_error(settings: "Settings") -> str:
    """What is wrong with the server's answer about a tenant `probe`; empty: nothing."""
    from agents.engine.processor import Question
    from agents.policy.policies import Remote
    from stores.opa import Opa

    limit = min(ANSWER_S, settings.opa_timeout_s)
    remote = Remote(Opa(settings.opa_url, limit, settings.opa_token.get_secret_value()))
    try:
        told = await remote.ask(Question("", "probe", "state", {"state": 1.0}))
    finally:
        await remote.close()
    return told.rationale if told.outcome == "error" else ""


async def _access_error(settings: "Settings") -> str:
    """What is wrong with what the server says of a write by HTTP; empty: nothing."""
    from agents.policy.access import DeniedError, access_of
    from stores.opa import NoAnswerError

    limit = min(ANSWER_S, settings.opa_timeout_s)
    access = access_of(settings.model_copy(update={"opa_timeout_s": limit, "opa_fail_open": False}))
    assert access is not None
    probe = {"method": "POST", "path": "/events/cog.observations", "tenant_id": "probe",
             "action": "events", "target_state": None, "max_seconds": None}  # fmt: skip
    try:
        await access.ask(probe)
    except NoAnswerError as problem:
        return str(problem)
    except DeniedError:
        pass
    finally:
        await access.close()
    return ""


def _silent(what: str, where: str, error: object) -> SettingsError:
    return SettingsError(
        f"{what} ({where}) doesn't answer: {error}\n      `soma stack up` starts a local one."
    )


def _outbox(settings: "Settings") -> str:
    """Whether PostgreSQL and Kafka agree on what was sent."""
    from agents.outbox.receipts import ReceiptsLost
    from agents.outbox.reconcile import disagreement  # kernels: when they are used
    from agents.outbox.relay import topics_there
    from stores.errors import StoreDown

    try:
        found = asyncio.run(disagreement(settings, topics_there(settings)))
    except KafkaException as error:
        raise SettingsError(f"can't be looked at: {error.args[0].str()}") from error
    except (StoreDown, ReceiptsLost) as error:
        raise SettingsError(f"can't be looked at: {error}") from error
    if found is not None:
        raise SettingsError(str(found))
    return "PostgreSQL and Kafka agree on what was sent"


def _schema(settings: "Settings") -> str:
    from stores.postgres import connected

    schema, wanted = schema_of(settings.namespace), migrations.load()

    async def steps() -> list[Step]:
        async with connected(settings.postgres(), "soma doctor") as connection:
            return await migrations.status(connection, schema, wanted)

    found = asyncio.run(steps())
    migrations.refuse(schema, found)
    if pending := [step for step in found if step.state == "pending"]:
        raise MigrationError(
            f"{len(pending)} of {len(found)} migrations haven't run in the schema {schema}; "
            "`soma migrate up` runs them"
        )
    return f"{schema}, {len(found)} migrations"
