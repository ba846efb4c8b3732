"""`soma memory list|export|import`: a tenant's memories out of the log, and from a file again."""

import functools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from agents.commands.memory_api import Api, asking
from agents.commands.past import in_a_line
from agents.tools.mapping import NAME
from agents.tools.output import counted, plain, say

if TYPE_CHECKING:
    from agents.tools.memory_lines import How, Line
    from agents.tools.memory_reading import Row

EVENTS = "/events/memory.events"
BATCH_MAX, BATCH_BYTES = 200, 1 << 20  # of one request
EVENT_BYTES_MAX = 900_000  # as the API takes it
NAMED_MAX = 20  # bad lines that are named
SHOWN = 80  # characters of a payload on a line
SAY_S = 5.0  # between lines, where there is no terminal
STDIN = "-"

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_type = click.option("--type", "memory_type", type=click.Choice(["episodic", "semantic"]))
_part = click.option("--namespace", default=None, help="Only this part of the memory.")


def _tenant(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not NAME.fullmatch(value):
        raise click.BadParameter(f"{value[:40]!r} can't be a tenant", ctx, param)
    return value


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A time that was, in UTC."""
    if value is None:
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value[:40]!r} is no time", ctx, param) from None
    if found.tzinfo is None:
        raise click.BadParameter("without a time zone: 2026-01-31T12:00:00Z", ctx, param)
    if found > datetime.now(UTC):
        raise click.BadParameter("is still to come", ctx, param)
    return found.astimezone(UTC).isoformat(timespec="microseconds")


def _how(restore: bool, replace: bool, at: str | None) -> "How":
    from agents.tools.memory_lines import How

    if not (restore or replace):
        if at is not None:
            raise click.BadParameter("of --restore or --replace", param_hint="--at")
        return How()
    return How(at or datetime.now(UTC).isoformat(timespec="microseconds"), replace)


def _happening(command: Callable[..., None]) -> Callable[..., None]:
    """The options of how lines become events, which the command has as `how`."""

    @click.option("--restore", is_flag=True, help="Bring back what was deleted since, too.")
    @click.option("--replace", is_flag=True, help="As --restore; write over what is there, too.")
    @click.option(
        "--at",
        metavar="TIME",
        callback=_moment,
        help="When those two happen: to go on after an interruption.  [default: now]",
    )
    @functools.wraps(command)
    def with_how(*, restore: bool, replace: bool, at: str | None, **rest: Any) -> None:
        command(how=_how(restore, replace, at), **rest)

    return with_how


_whose = click.argument("tenant", callback=_tenant)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which memories."""

    namespace: str | None
    memory_type: str | None

    def __call__(self, head: "Row") -> bool:
        wants = ((self.namespace, head["namespace"]), (self.memory_type, head["memory_type"]))
        return all(one in (None, has) for one, has in wants)


@click.command("list")
@_whose
@_part
@_type
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@_json
def list_(
    tenant: str, namespace: str | None, memory_type: str | None, limit: int, as_json: bool
) -> None:
    """List what TENANT remembers, longest unchanged first, as memory.latest has it.

    \b
    Examples:
      soma memory list acme
      soma memory list acme --namespace deploys --json
    """
    from agents.settings import load
    from agents.tools.memory_lines import line_of
    from agents.tools.memory_reading import Reading

    found: list[dict[str, Any]] = []
    settings = load()
    with in_a_line(settings):
        reading = Reading(settings, tenant)
        for head, content in reading.all(Wanted(namespace, memory_type)):
            if len(found) < limit:
                shown = line_of(head, content, reading.names)
                del shown["embedding"]
                found.append({**shown, "id": head["id"], "version": head["version"]})
    if as_json:
        click.echo(json.dumps({"tenant": tenant, "offset": reading.end, "memories": found}))
        return
    for one in found:
        text = plain(json.dumps(one["payload"], ensure_ascii=False))
        short = text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
        click.echo(f"{one['ts']}  {plain(one['coordinate'])}  version {one['version']}  {short}")
    if not found:
        say("There are none.")


@click.command("export")
@_whose
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@_part
@_type
@_json
def export(
    tenant: str, path: Path, namespace: str | None, memory_type: str | None, as_json: bool
) -> None:
    """Write what TENANT remembers to FILE as JSON lines ('-': standard output).

    As memory.latest is while it is read: payloads, links by coordinate, vectors that came with the
    memories (not those that recall makes of texts), and when each was changed. Each memory that is
    there all the time is written once, whatever is compacted meanwhile. What was deleted isn't
    written. FILE is there when all of it is.

    \b
    Examples:
      soma memory export acme acme.jsonl
      soma memory export acme - | gzip > acme.jsonl.gz
    """
    from agents.settings import load
    from agents.tools.memory_lines import line_of
    from agents.tools.memory_reading import Reading

    settings, since, count = load(), time.monotonic(), 0
    with in_a_line(settings), replacing(path) as out, _progress("reading") as step:
        reading = Reading(settings, tenant, lambda done, total: step(done, total, ""))
        for head, content in reading.all(Wanted(namespace, memory_type)):
            line = line_of(head, content, reading.names)
            out.write(json.dumps(line, allow_nan=False).encode() + b"\n")
            count += 1
    seconds = time.monotonic() - since
    said = {"tenant": tenant, "memories": count, "offset": reading.end, "seconds": seconds}
    if as_json:
        click.echo(json.dumps(said), err=str(path) == STDIN)
    else:
        say(f"{counted(count, 'memory', 'memories')} written, in {seconds:.1f} s")


@dataclass(slots=True)
class Done:
    """How far an import is."""

    memories: int = 0
    links: int = 0
    accepted: int = 0  # events
    duplicates: int = 0  # that were accepted by an import before
    bad: int = 0  # lines


@click.command("import")
@_whose
@click.argument("path", metavar="FILE")
@_happening
@click.option("--skip-bad", is_flag=True, help="Leave lines out that are no memories.")
@click.option("--dry-run", is_flag=True, help="Check all lines and send none.")
@asking
@_json
def import_(
    tenant: str, path: str, how: "How", skip_bad: bool,
    dry_run: bool, url: str | None, token_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Let TENANT remember what FILE says, as `soma memory export` writes it ('-': standard input).

    All lines are checked first, and nothing is sent if one is bad. Then memories, and links behind
    them, go through the outbox by the HTTP API. Each line's events have keys that follow from it:
    after an interruption the same command goes on, and nothing is there twice.

    A memory that is there stays as it is, with the links that it has. What was deleted after the
    line's time stays deleted (and, when the deletion is no longer known, what is as old in that
    namespace). --restore brings that back, and --replace writes over what is there, too: its links
    stay, and the line's come to them. Both happen at --at, not at the lines' times, and say which
    time that is: to go on, give it again. What the processor refuses stands on memory.audit.

    \b
    Examples:
      soma memory import acme acme.jsonl --dry-run
      soma memory import acme-copy acme.jsonl --json
      soma memory import acme acme.jsonl --restore
    """
    api = Api(tenant, url, token_file)
    done, since = Done(), time.monotonic()
    with _opened(path) as source, _progress("checking") as step:
        size = source.seek(0, os.SEEK_END)
        bad = _check(source, tenant, done, lambda: step(source.tell(), size, ""))
        if bad and not skip_bad:
            raise click.ClickException("nothing was sent:\n  " + "\n  ".join(bad))
        if not dry_run:
            if how.at:
                say(f"It happens at {how.at}: to go on after an interruption, give --at {how.at}")
            for events in (_created(source, tenant, how), _linked(source, tenant, how)):
                for batch in batches(events):
                    _send(api, batch, done)
                    step(source.tell(), size, f"{done.accepted + done.duplicates:,} events")
    seconds = time.monotonic() - since
    if as_json:
        told = {"tenant": tenant, **asdict(done), "dry_run": dry_run, "seconds": seconds,
                "at": how.at or None}  # fmt: skip
        click.echo(json.dumps(told))
    else:
        what = "checked" if dry_run else "accepted"
        again = f", {done.duplicates:,} of their events before" if done.duplicates else ""
        many = counted(done.memories, "memory", "memories")
        say(f"{many} and {counted(done.links, 'link')} {what}{again}, in {seconds:.1f} s")
        for one in bad:
            say(f"left out: {one}")


def _check(source: BinaryIO, tenant: str, done: Done, step: "Any") -> list[str]:
    """What is wrong, by line; of many the first are named. Counts what isn't."""
    wrong: list[str] = []
    for number, line in _lines(source):
        step()
        if isinstance(line, str):
            done.bad += 1
            if done.bad <= NAMED_MAX:
                wrong.append(f"line {number}: {plain(line)}")
            continue
        done.memories += 1
        done.links += len(line.fields["links"])
    if done.bad > NAMED_MAX:
        wrong.append(f"and {done.bad - NAMED_MAX:,} more")
    return wrong


def _lines(source: BinaryIO) -> Iterator[tuple[int, "Line | str"]]:
    """Each line's number and what it is, or what is wrong with it; empty ones are passed over."""
    from agents.tools.memory_lines import LINE_BYTES_MAX, LineError, read_line

    source.seek(0)
    number = 0
    while data := source.readline(LINE_BYTES_MAX + 1):
        number += 1
        if len(data) > LINE_BYTES_MAX:
            yield number, f"longer than {LINE_BYTES_MAX:,} bytes"
            while data and not data.endswith(b"\n"):
                data = source.readline(LINE_BYTES_MAX)
            continue
        if not data.strip():
            continue
        try:
            line = read_line(data)
            if (size := _size(line.created("x" * 128))) > EVENT_BYTES_MAX:
                raise LineError(f"{size:,} bytes as an event; the API takes {EVENT_BYTES_MAX:,}")
        except LineError as error:
            yield number, str(error)
        else:
            yield number, line


def _created(source: BinaryIO, tenant: str, how: "How") -> Iterator[dict[str, Any]]:
    for _, line in _lines(source):
        if not isinstance(line, str):
            yield line.created(tenant, how)


def _linked(source: BinaryIO, tenant: str, how: "How") -> Iterator[dict[str, Any]]:
    for _, line in _lines(source):
        if not isinstance(line, str):
            yield from line.linked(tenant, how)


def batches(events: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Events in requests of BATCH_MAX and BATCH_BYTES at most, unless one alone has more."""
    batch: list[dict[str, Any]] = []
    size = 0
    for event in events:
        more = _size(event)
        if batch and (len(batch) == BATCH_MAX or size + more > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += more
    if batch:
        yield batch


def _size(event: dict[str, Any]) -> int:
    return len(json.dumps(event, ensure_ascii=False).encode())


def _send(api: Api, batch: list[dict[str, Any]], done: Done) -> None:
    """One request. Without a key of order, all of a tenant's are in one: links come behind."""
    body = [{"payload": one, "dedupe_key": one["dedupe_key"]} for one in batch]
    for one in api.insist(EVENTS, body)["events"]:
        done.duplicates += one["duplicate"]
        done.accepted += not one["duplicate"]


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A file that can be read more than once."""
    if path == STDIN:
        with tempfile.TemporaryFile() as spooled:
            source = click.get_binary_stream("stdin")
            while chunk := source.read(1 << 20):
                spooled.write(chunk)
            yield spooled
        return
    try:
        with Path(path).open("rb") as file:
            yield file
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that is there when the block ends well; standard output as it is."""
    if str(path) == STDIN:
        out = click.get_binary_stream("stdout")
        yield out
        out.flush()
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise click.ClickException(f"{error.filename or path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _progress(what: str) -> Iterator[Any]:
    """Shows how far it is: `step(done, total, text)`; a bar on a terminal, else lines."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    hidden = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task, said = bar.add_task(what, total=None), time.monotonic()

        def step(done: int, total: int, text: str) -> None:
            nonlocal said
            if not hidden:
                bar.update(task, completed=done, total=total, description=text or what)
            elif time.monotonic() - said > SAY_S and total:
                said = time.monotonic()
                say(f"{text or what}: {done / total:.0%}")

        yield step
