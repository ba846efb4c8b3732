"""`soma journal`: what `soma api` keeps on this machine while PostgreSQL is away."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.api import journal_admin
from agents.commands.actor import actor as _actor
from agents.commands.moment import moment
from agents.settings import load
from agents.tools.output import counted, plain
from stores import journal_folder as folders
from stores.errors import StoreError
from stores.journal import Journal, JournalError, JournalLockedError, JournalRow, Replayed

if TYPE_CHECKING:
    from agents.settings import Settings
    from stores.outbox_tenants import TenantOutbox

T = TypeVar("T")

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Default: SOMA_JOURNAL__FOLDER, or journal in SOMA_HOME.",
)


@click.group()
def journal() -> None:
    """Show, replay, tidy and drain the local journal.

    `stats` and `events` only read, also while `soma api` runs. The others need the folder for
    themselves: while `soma api` has it, use its routes under /admin/journal.
    """


@journal.command()
@_folder
@_json
def stats(folder: Path | None, as_json: bool) -> None:
    """Show how many events wait, and how large the journal is.

    \b
    Example:
      soma journal stats
    """
    settings = load()
    found = _asked(lambda: folders.summary(_there(settings, folder)))
    found["bytes_max"] = settings.journal.max_mb << 20
    if as_json:
        click.echo(json.dumps(found))
        return
    oldest = found["oldest_pending"]
    age = "" if oldest is None else f" (the oldest for {time.time() - oldest:,.0f} s)"
    click.echo(f"{found['folder']}: {found['bytes']:,} of at most {found['bytes_max']:,} bytes")
    click.echo(f"  {found['pending']:>10,} wait for the outbox{age}")
    click.echo(f"  {found['failed']:>10,} refused by it")
    click.echo(f"  {found['drained']:>10,} drained, kept until their time is over")
    click.echo(f"  {counted(found['files'], 'file')}, {found['packed_files']} packed")
    for name in found["set_aside"]:
        click.echo(f"  set aside, damaged: {name} (try `sqlite3 {name} .recover`)")


@journal.command()
@click.option("--status", type=click.Choice(["pending", "failed", "drained"]), help="Only these.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0, show_default=True)
@_folder
@_json
def events(status: Any, limit: int, offset: int, folder: Path | None, as_json: bool) -> None:
    """Show the journal's events, oldest first.

    \b
    Example:
      soma journal events --status failed
    """
    settings = load()
    rows = _asked(lambda: folders.events(_there(settings, folder), limit, offset, status))
    if as_json:
        click.echo(json.dumps({"events": [row_data(row) for row in rows]}))
        return
    for row in rows:
        one = row.event
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.created))
        text = f"{row.seq}  {row.state:<8} {when}  {one.topic}  {one.tenant}  {one.dedupe_key}"
        click.echo(plain(text))
        if row.error:
            click.echo(f"    {plain(row.error)}")


@journal.command()
@click.argument("seqs", nargs=-1, type=click.IntRange(1))
@click.option("--drained", is_flag=True, help="Drained ones too: the database was restored.")
@click.option(
    "--since", callback=moment, metavar="TIME",
    help="Instead of SEQS all that were accepted since then (with --drained).",
)  # fmt: skip
@_actor
@_folder
@_json
def replay(
    seqs: tuple[int, ...], drained: bool, since: datetime | None, actor: str, folder: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Have events that the outbox refused drained again.

    With --drained also those that it took: into a database that was restored from a backup. What
    it has already, it keeps once. Stands in the audit (`soma outbox audit`). Fails when one isn't
    there or wasn't refused.

    \b
    Examples:
      soma journal replay 3000000017 3000000018
      soma journal replay --drained --since 2026-01-31T12:00:00Z
    """
    if bool(seqs) == (since is not None) or (since is not None and not drained):
        raise click.UsageError("Give SEQS, or --drained and --since.")
    settings = load()

    async def replayed(one: Journal) -> Replayed:
        async with _outbox(settings, "soma journal replay") as outbox:
            these = seqs if since is None else await journal_admin.drained_since(one, since)
            return await journal_admin.replay(one, outbox, actor, these, drained)

    done = _with_journal(settings, folder, replayed)
    if as_json:
        click.echo(json.dumps(asdict(done)))
    else:
        again = counted(len(done.replayed), "event")
        click.echo(f"{again} to drain again: `soma journal drain`, or soma api.")
        for name, which in (("Not in the journal", done.missing), ("Not refused", done.not_failed)):
            if which:
                click.echo(f"{name}: {', '.join(map(str, which))}", err=True)
    if done.missing or done.not_failed:
        raise click.exceptions.Exit(1)


@journal.command()
@click.option("--drop-failed", is_flag=True, help="Delete what the outbox refused, too.")
@click.option("--yes", is_flag=True, help="Don't ask.")
@_actor
@_folder
@_json
def cleanup(drop_failed: bool, yes: bool, actor: str, folder: Path | None, as_json: bool) -> None:
    """Pack drained files, and remove those whose time is over.

    What --drop-failed deletes stands in the audit (`soma outbox audit`); without PostgreSQL, where
    that is, nothing is deleted.

    \b
    Example:
      soma journal cleanup
    """
    if drop_failed and not yes:
        click.confirm("All refused events will be deleted. Go on?", abort=True)
    settings = load()

    async def cleaned(one: Journal) -> dict[str, int]:
        deleted = 0
        if drop_failed:
            async with _outbox(settings, "soma journal cleanup") as outbox:
                deleted = await journal_admin.drop_failed(one, outbox, actor)
        return asdict(await one.cleanup()) | {"failed_deleted": deleted}

    done = _with_journal(settings, folder, cleaned)
    if as_json:
        click.echo(json.dumps(done))
        return
    click.echo(f"{counted(done['packed'], 'file')} packed, {done['removed']} removed.")
    if drop_failed:
        click.echo(f"{counted(done['failed_deleted'], 'refused event')} deleted.")


@journal.command()
@_folder
@_json
def drain(folder: Path | None, as_json: bool) -> None:
    """Bring what waits into the outbox, oldest first, once each.

    Exits with 1 if something stays, or was refused.

    \b
    Example:
      soma journal drain
    """
    settings = load()

    from agents.api.journal_sink import LOCK_S, OutboxSink

    async def drained(one: Journal) -> dict[str, Any]:
        async with _outbox(settings, "soma journal drain", LOCK_S) as outbox:
            done = await one.drain(OutboxSink(outbox), settings.journal.batch)
        left = one.pending()
        return {
            "drained": done.drained, "failed": done.failed, "pending": left,
            "full": sorted(done.later - done.locked), "locked": sorted(done.locked),
        }  # fmt: skip

    done = _with_journal(settings, folder, drained)
    if as_json:
        click.echo(json.dumps(done))
    else:
        click.echo(f"{counted(done['drained'], 'event')} drained, {done['failed']:,} refused.")
        if done["pending"]:
            click.echo(f"{done['pending']:,} wait.")
        for name, why in (("full", "At their limit of pending events"),
                          ("locked", "Held up by another open transaction")):  # fmt: skip
            if done[name]:
                click.echo(f"{why}: {', '.join(done[name][:10])}")
    if done["pending"] or done["failed"]:
        raise click.exceptions.Exit(1)


@asynccontextmanager
async def _outbox(
    settings: "Settings", name: str, lock_s: float | None = None
) -> "AsyncIterator[TenantOutbox]":
    from stores.outbox_tenants import TenantOutbox  # the client: when it is used
    from stores.postgres import LOCK_S

    wait_s = LOCK_S if lock_s is None else lock_s
    one = await TenantOutbox.open(settings.postgres(), settings.namespace, name, lock_s=wait_s)
    try:
        yield one
    finally:
        await one.close()


def row_data(row: JournalRow) -> dict[str, Any]:
    """A row as JSON data."""
    shown = {name: value for name, value in asdict(row.event).items() if name != "but_for"}
    return {"seq": row.seq, "state": row.state, "error": row.error, **shown}


def _there(settings: "Settings", folder: Path | None) -> Path:
    from agents.api.journaled import journal_folder

    where = folder or journal_folder(settings)
    if not where.is_dir():
        raise click.ClickException(
            f"There is no journal in {where}: `soma api` makes it, or set SOMA_JOURNAL__FOLDER."
        )
    return where


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except JournalLockedError as error:
        raise click.ClickException(f"{error}.") from error
    except (JournalError, StoreError, PermissionError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _with_journal(
    settings: "Settings", folder: Path | None, use: Callable[[Journal], Awaitable[T]]
) -> T:
    from agents.api.journaled import open_journal

    where = _there(settings, folder)

    async def run() -> T:
        one = open_journal(settings, where)
        try:
            return await use(one)
        finally:
            one.close()

    return _asked(lambda: asyncio.run(run()))
