"""`soma outbox`: what waits in the outbox or failed there, and what to do with it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.commands.actor import actor as _actor
from agents.commands.outbox_reconcile import reconcile_
from agents.outbox import OURS
from agents.settings import load
from agents.tools.known import users_topic
from agents.tools.output import counted, plain
from stores.errors import StoreError
from stores.outbox_statements import COUNTED_MAX
from stores.outbox_types import STATUSES, Added, Check, Replayed, Row, Skipped, Summary
from topics import strictjson

if TYPE_CHECKING:
    from stores.outbox import Outbox

T = TypeVar("T")
WAYS = ("failed", "skipped", "sent")  # that can be put back
LIMIT_DIGITS = 10  # of the largest limit on pending events
OF_TENANT = ("status", "topic", "before", "limit")  # options of replay that choose among a tenant's

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_yes = click.option("--yes", is_flag=True, help="Don't ask.")
_ids = click.argument("ids", nargs=-1, type=click.IntRange(1))
_topic = click.option("--topic", help="A topic, or the beginning of topics and `*`.")


def one_meaning(ctx: click.Context, param: click.Parameter, text: str) -> str:
    """JSON that PostgreSQL won't read otherwise than it is meant: it takes a name given twice."""
    try:
        strictjson.parse(text)
    except strictjson.NotJsonError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return text.removeprefix("\ufeff")


@click.group()
def outbox() -> None:
    """Show what waits in the outbox or failed there; replay it, or give it up.

    An event that can't be published is tried again, then `failed`. It holds back later events of
    its key until it is replayed or skipped. What is done here by hand stands in the audit.
    """


outbox.add_command(reconcile_)


@outbox.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="[default: all]")
@click.option("--tenant")
@_topic
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--offset", type=click.IntRange(0, 100_000), default=0)
@_json
def list_(
    status: str | None, tenant: str | None, topic: str | None, limit: int, offset: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Show events: those that wait from the oldest on, others from the newest.

    \b
    Example:
      soma outbox list --status failed --tenant orders --topic 'cog.*'
    """
    rows = _asked(lambda box: box.list(status, tenant, topic, limit, offset))
    if as_json:
        _print({"events": [asdict(row) for row in rows]})
        return
    for row in rows:
        click.echo(_line(row))
    if not rows:
        click.echo("There are none.", err=True)


@outbox.command()
@click.option("--top", type=click.IntRange(1, 1000), default=10, show_default=True)
@_json
def summary(top: int, as_json: bool) -> None:
    """Show how much waits, in all and by tenant.

    \b
    Example:
      soma outbox summary
    """
    found = _asked(lambda box: box.summary(top))
    if as_json:
        _print(asdict(found))
        return
    _say(found)


@outbox.command()
@_ids
@click.option("--tenant", help="All of this tenant's, instead of IDS.")
@click.option("--status", type=click.Choice(WAYS), default="failed", show_default=True)
@_topic
@click.option("--before", type=click.DateTime(), help="Added before this time (UTC).")
@click.option("--limit", type=click.IntRange(1, 1000), default=1000, show_default=True)
@click.option("--again", is_flag=True, help="Send again what was sent: under new ids.")
@_actor
@_yes
@_json
def replay(
    ids: tuple[int, ...], tenant: str | None, status: str, topic: str | None,
    before: datetime | None, limit: int, again: bool, actor: str, yes: bool, as_json: bool,
) -> None:  # fmt: skip
    """Put failed or skipped events back into the queue, by IDS or of a tenant.

    They keep their place in the order of their key. Fails when an id isn't there or didn't fail.

    \b
    Examples:
      soma outbox replay 17 18
      soma outbox replay --tenant orders --topic memory.events --before 2026-01-31T12:00:00
    """
    if bool(ids) == bool(tenant):
        raise click.UsageError("Give IDS, or --tenant.")
    if ids and (lost := [f"--{name}" for name in OF_TENANT if _is_given(name)]):
        raise click.UsageError(f"{', '.join(lost)}: with --tenant only, IDS are all replayed.")
    if tenant is None:
        done = _asked(lambda box: box.replay(ids, actor, again))
    else:
        if not yes:
            what = f"{status} events of {tenant}" + (f" in {topic}" if topic else "")
            click.confirm(f"Up to {limit} {what} will be sent. Go on?", abort=True, err=True)
        until = before.replace(tzinfo=UTC) if before else None
        name = tenant
        done = _asked(
            lambda box: box.replay_tenant(name, actor, status, topic, until, limit, again)
        )
    _told("replayed", done.replayed, done, as_json)


@outbox.command()
@click.argument("ids", nargs=-1, type=click.IntRange(1), required=True)
@_actor
@_yes
@_json
def skip(ids: tuple[int, ...], actor: str, yes: bool, as_json: bool) -> None:
    """Give failed events up: they aren't sent, and what they held back is.

    \b
    Example:
      soma outbox skip 17 --yes
    """
    if not yes:
        click.confirm(f"{counted(len(ids), 'event')} won't be sent. Go on?", abort=True, err=True)
    done = _asked(lambda box: box.skip(ids, actor))
    _told("skipped", done.skipped, done, as_json)


@outbox.command()
@click.option("--max-pending", type=click.IntRange(0, 10**9), required=True)
@_json
def check(max_pending: int, as_json: bool) -> None:
    """Fail when a tenant has more than so many events pending, or any that failed; say which.

    \b
    Example:
      soma outbox check --max-pending 10000
    """
    found = _asked(lambda box: box.check(max_pending))
    if as_json:
        _print(asdict(found) | {"well": found.well})
    else:
        for line in _wrong(found, max_pending):
            click.echo(line)
        if found.well:
            click.echo(f"Well: no tenant has more than {max_pending} pending, nothing failed.")
    if not found.well:
        raise click.exceptions.Exit(1)


@outbox.command()
@click.argument("tenant", required=False)
@click.argument("max_pending", required=False)
@_actor
@_json
def limit(tenant: str | None, max_pending: str | None, actor: str, as_json: bool) -> None:
    """Show how many events tenants may have pending, or set it: MAX_PENDING, or `default`.

    TENANT `*` is all who have no limit of their own. Beyond it adding is refused (SO001).

    \b
    Examples:
      soma outbox limit
      soma outbox limit orders 500000
    """
    if tenant is not None:
        if max_pending is None:
            raise click.UsageError("Give MAX_PENDING too, or `default`.")
        if max_pending != "default" and not _is_number(max_pending):
            raise click.BadParameter(
                "a number up to 1,000,000,000, or `default`", param_hint="MAX_PENDING"
            )
        most = None if max_pending == "default" else int(max_pending)
        name = tenant
        _asked(lambda box: box.limit(name, most, actor))
    found = _asked(lambda box: box.limits())
    if as_json:
        _print({"limits": {one.tenant: one.max_pending for one in found}})
        return
    for one in found:
        click.echo(f"{one.max_pending:>12,}  {one.tenant}")


@outbox.command()
@click.argument("topic")
@click.argument("tenant")
@click.argument("payload", metavar="JSON", callback=one_meaning)
@click.option("--dedupe-key", required=True, help="Given twice, the event is one.")
@click.option("--key", help="The scope of order. [default: the tenant]")
@click.option("--header", "headers", multiple=True, metavar="NAME=TEXT")
@_json
def add(
    topic: str, tenant: str, payload: str, dedupe_key: str, key: str | None,
    headers: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Add an event for TENANT; the relay checks it against the topic's schema and publishes it.

    Fails when the dedupe key is there with another content.

    \b
    Example:
      soma outbox add memory.events orders '{"event_id": …}' --dedupe-key order-17
    """
    row, _ = users_topic(topic)
    if not row.of_tenants:
        raise click.ClickException(f"{topic} isn't written by tenants: use `soma publish`")
    pairs = dict(_pair(one) for one in headers) or None
    done = _asked(lambda box: box.add(topic, tenant, payload, dedupe_key, key, pairs))
    if as_json:
        _print(asdict(done))
    else:
        click.echo(f"{done.id}{' (it was there before)' if done.duplicate else ''}")
    _same(done)


@outbox.command()
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
@click.option("--below", type=click.IntRange(1), help="Entries with smaller ids: to go on.")
@_json
def audit(limit: int, below: int | None, as_json: bool) -> None:
    """Show who replayed, skipped and limited what, newest first.

    \b
    Example:
      soma outbox audit
    """
    found = _asked(lambda box: box.audit(limit, below))
    if as_json:
        _print({"entries": [asdict(one) for one in found]})
        return
    for one in found:
        detail = json.dumps(one.detail)
        click.echo(plain(f"{one.id:>6} {one.ts:%Y-%m-%d %H:%M:%S} {one.actor}: {one.action} "
                         f"{one.tenant or ''} {detail}"))  # fmt: skip


def _line(row: Row) -> str:
    text = f"{row.id:>10}  {row.status:<8} {row.tenant}  {row.topic}  key {row.key}"
    if row.retries:
        text += f"  retries {row.retries}"
    if row.next_attempt_at:
        text += f"  next {row.next_attempt_at:%H:%M:%S}"
    return plain(text) + (f"\n            {plain(row.last_error)}" if row.last_error else "")


def _say(found: Summary) -> None:
    about = "about " if found.kept > COUNTED_MAX else ""
    click.echo(
        f"{found.pending:,} pending (the oldest for {found.oldest_age_s:,.0f} s), "
        f"{found.failed:,} failed, {found.skipped:,} skipped; {about}{found.kept:,} kept"
    )
    for one in found.top:
        limit = f"of {one.max_pending:,}" + (", refused more" if one.refused else "")
        click.echo(f"  {one.tenant:<24} {one.pending:>10,} pending {limit}, {one.failed:,} failed, "
                   f"oldest {one.oldest_age_s:,.0f} s")  # fmt: skip
    if found.tenants > len(found.top):
        click.echo(f"  and {counted(found.tenants - len(found.top), 'other tenant')}")


def _told(verb: str, ids: list[int], done: Replayed | Skipped, as_json: bool) -> None:
    """What was done; the status is non-zero when something of it couldn't be."""
    if as_json:
        _print(asdict(done))
    else:
        click.echo(f"{verb} {counted(len(ids), 'event')}")
        if isinstance(done, Replayed) and done.more:
            click.echo("There may be more: do it again.")
        if done.missing:
            click.echo(f"not there: {', '.join(map(str, done.missing))}", err=True)
        if done.not_failed:
            click.echo(f"not failed: {', '.join(map(str, done.not_failed))}", err=True)
    if done.missing or done.not_failed:
        raise click.exceptions.Exit(1)


def _wrong(found: Check, max_pending: int) -> list[str]:
    over = [f"{tenant}: {n:,} pending, more than {max_pending:,}" for tenant, n in
            sorted(found.over.items())]  # fmt: skip
    return over + [f"{tenant}: {n:,} failed" for tenant, n in sorted(found.failed.items())]


def _same(done: Added) -> None:
    if done.differs:
        raise click.ClickException(
            f"event {done.id} has this dedupe key and says something else: that one is kept"
        )


def _is_given(option: str) -> bool:
    source = click.get_current_context().get_parameter_source(option)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= LIMIT_DIGITS


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{text!r} isn't NAME=TEXT", param_hint="--header")
    if name.lower() in OURS:
        raise click.BadParameter(f"{name} is ours: the relay writes it", param_hint="--header")
    return name, value


def _print(found: dict[str, Any]) -> None:
    click.echo(json.dumps(found, default=lambda time: time.isoformat()))


def _asked(work: "Callable[[Outbox], Awaitable[T]]") -> T:
    from stores.outbox import Outbox  # the client: when it is used

    async def ask() -> T:
        settings = load()
        box = await Outbox.open(settings.postgres(), settings.namespace)
        try:
            return await work(box)
        finally:
            await box.close()

    try:
        return asyncio.run(ask())
    except StoreError as error:
        raise click.ClickException(str(error)) from error
