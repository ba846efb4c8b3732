"""`soma sleep`: let a tenant sleep, wake it, show who sleeps how deep."""

import json
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import click

from agents.commands.actor import actor
from agents.commands.asking import ask
from agents.kit.asleep import ACTIVE, STATES
from agents.settings import load
from agents.tools.mapping import NAME
from agents.tools.output import plain
from agents.tools.reader import TopicReader
from topics import codec

# As agents/sleep has them; without the engine that it brings.
REQUESTS, STATUS = "brain.sleep.requests", "brain.sleep.states"
TTL_S_MAX = 3600
PREDICTORS, SLEEP_AFTER = "predictors", "sleep_after_s"
SECOND = 1_000_000

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def sleep() -> None:
    """Let a tenant sleep, wake it, and show who sleeps.

    Deeper sleep costs less: light, deep, freeze. A request for a deeper state walks over those
    between; from freeze one may go back to light, and from each be awake (active).
    """


@sleep.command("set")
@click.argument("tenant")
@click.argument("state", type=click.Choice(STATES, case_sensitive=False))
@click.option(
    "--ttl", "ttl_seconds", type=click.IntRange(1, TTL_S_MAX), metavar="SECONDS",
    help=f"Wake by itself after so long, at most {TTL_S_MAX}. [default: when asked to]",
)  # fmt: skip
@click.option("--wake-on-traffic", is_flag=True, help="Wake at the tenant's next observation, too.")
@actor
@_json
def set_(
    tenant: str, state: str, ttl_seconds: int | None, wake_on_traffic: bool, actor: str,
    as_json: bool,
) -> None:  # fmt: skip
    """Let TENANT be in STATE from now on, and wait for the answer.

    \b
    Examples:
      soma sleep set acme deep --ttl 600
      soma sleep set spare freeze --wake-on-traffic
      soma sleep set acme active
    """
    if not NAME.fullmatch(tenant):
        raise click.ClickException(f"{tenant[:40]!r} can't be a tenant: 1-128 of A-Z a-z 0-9 . _ -")
    if state == STATES[ACTIVE] and (ttl_seconds is not None or wake_on_traffic):
        raise click.ClickException("--ttl and --wake-on-traffic are of a sleep: active has no end")
    request_id = f"cli-{secrets.token_hex(8)}"
    record = {
        "request_id": request_id, "tenant": tenant, "target": state,
        "kind": "operator", "ttl_seconds": ttl_seconds, "wake_on_traffic": wake_on_traffic,
        "version": 0, "trace_id": None, "actor": actor, "ts": time.time_ns() // 1000,
    }  # fmt: skip
    value, named = codec.encode("sleep_request", record), ("request_id", request_id)
    answer = {"tenant": tenant} | ask(load(), REQUESTS, tenant, value, "sleep", named)
    if as_json:
        click.echo(json.dumps(answer))
    if answer["outcome"] == "refused":
        raise click.ClickException(f"{tenant} stays {answer['state']}: {plain(answer['why'])}")
    if not as_json:
        until = _at(answer["wake_at"])
        click.echo(f"{tenant}: {answer['state']}{until}, as version {answer['version']}")


@sleep.command()
@click.argument("tenant")
@click.argument("seconds", default="")
@click.option("--inherit", is_flag=True, help="Take TENANT's own value back.")
@_json
@click.pass_context
def policy(context: click.Context, tenant: str, seconds: str, inherit: bool, as_json: bool) -> None:
    """Show after how long a silence TENANT sleeps by itself; with SECONDS set it (0: never).

    It sleeps lightly then, until its next observation. '*' stands for all tenants that have no
    value of their own. It is the setting sleep_after_s of predictors (see `soma config`).

    \b
    Examples:
      soma sleep policy acme
      soma sleep policy acme 3600
      soma sleep policy '*' 86400
      soma sleep policy acme --inherit
    """
    from agents.commands import config  # when it is asked for

    if seconds and inherit:
        raise click.ClickException("SECONDS or --inherit: not both")
    if seconds or inherit:
        context.invoke(
            config.set_, tenant=tenant, setting=SLEEP_AFTER, value=seconds, processor=PREDICTORS,
            as_json=as_json,
        )  # fmt: skip
        return
    one = config.value_of(tenant, PREDICTORS, SLEEP_AFTER)
    if as_json:
        click.echo(json.dumps({"tenant": tenant, SLEEP_AFTER: one.value, "source": one.source}))
        return
    how = f"lightly after {one.value:g} s of silence" if one.value else "never by itself"
    click.echo(f"{tenant}: sleeps {how} ({config.WHOSE[one.source]})")


@sleep.command()
@click.argument("tenant", default="")
@_json
def status(tenant: str, as_json: bool) -> None:
    """Show how deep TENANT sleeps, or who sleeps at all.

    \b
    Examples:
      soma sleep status
      soma sleep status acme --json
    """
    found = [one for one in _states(tenant) if tenant or one["state"] != STATES[ACTIVE]]
    if as_json:
        click.echo(json.dumps({"tenants": found}))
        return
    for one in found:
        whose = f", the {one['cause']}'s sleep" if one["cause"] else ""
        since = datetime.fromtimestamp(one["since"] / SECOND, UTC).isoformat(timespec="seconds")
        click.echo(f"{one['tenant']}: {one['state']} since {since}{_at(one['wake_at'])}{whose}")
    if not found:
        click.echo(f"{tenant} was never asleep." if tenant else "Nobody sleeps.", err=True)


def _at(wake_at: int | None) -> str:
    if wake_at is None:
        return ""
    return f", until {datetime.fromtimestamp(wake_at / SECOND, UTC).isoformat(timespec='seconds')}"


def _states(tenant: str) -> list[dict[str, Any]]:
    """The last state of each tenant, or of one, by name."""
    reader = TopicReader(load(), STATUS, "beginning", of=tenant or None)
    found: dict[str, dict[str, Any]] = {}
    try:
        for message in reader.records(follow=False):
            value = message.value()
            name, record = codec.decode(value) if isinstance(value, bytes) else ("", {})
            if name == "sleep_state" and tenant in ("", record["tenant"]):
                found[record["tenant"]] = record
    finally:
        reader.close()
    return [found[name] for name in sorted(found)]
