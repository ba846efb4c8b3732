"""`soma replay`: the past of a topic once more, as jobs that a worker runs."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from agents.commands import (
    replay_outbox,
    replay_projection,
    replay_rebuild,
    replay_redrive,
    replay_whatif,
)
from agents.commands.actor import actor
from agents.settings import load
from agents.tools.output import counted, plain, say
from topics.codec import BadRecord

if TYPE_CHECKING:
    from agents.replay.client import Statuses
    from agents.settings import Settings

ANSWER_S = 30.0  # for the first answer to a command
SILENCE_S = 120.0  # without any word of a job that runs: its worker may start anew meanwhile
LINES = {
    one.MODE: one.lines_of
    for one in (replay_rebuild, replay_whatif, replay_outbox, replay_projection)
}  # fmt: skip
VERBS = ("sent", "would be sent")  # of its records, and in a dry run
FOLDED = ("sent", "would be folded")
OWN_VERBS = {
    replay_projection.MODE: replay_projection.VERBS, replay_rebuild.MODE: FOLDED,
    replay_whatif.MODE: FOLDED,
}  # fmt: skip
F = TypeVar("F", bound=Callable[..., Any])

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def replay() -> None:
    """Do the past of a topic again: jobs that a worker runs, beside live traffic.

    A job survives its worker, and all jobs of a worker share SOMA_REPLAY_RATE: each worker that
    runs `replay` has that rate of its own.
    """


OPTIONS = (
    click.option(
        "--to", "target", default="",
        help="A topic of your own, which must be there. Of what-if: before which it ends.",
    ),
    click.option(
        "--shadow", default="", is_flag=False, flag_value=replay_whatif.UNNAMED,
        help="Instead: a namespace, whose topic of that name is made like the source. Of rebuild: "
        "where its outputs go.",
    ),
    click.option("--id", "job", default="", help="The job's name. [default: a new one]"),
    click.option("--tenant", "tenants", multiple=True, help="Only these tenants' records."),
    click.option("--domain", "domains", multiple=True, help="Only these domains'."),
    click.option("--where", "predicate", default="", help="Only where this JMESPath is true."),
    click.option("--from", "since", default="", help="Where it begins. [default: the beginning]"),
    click.option("--until", default="", help="Before which it ends. [default: the end as it is]"),
    click.option("--partial", is_flag=True, help="What is gone from the log may be missing."),
    click.option("--dry-run", is_flag=True, help="Count what would be sent or folded, no more."),
    click.option(
        "--rate", "rate_limit", type=click.IntRange(0), default=0,
        help="Records a second at most. [default: as SOMA_REPLAY_RATE allows]",
    ),
    click.option("--no-wait", is_flag=True, help="Return when the job is accepted."),
)  # fmt: skip


def _options(command: F) -> F:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@replay.command()
@click.argument("source", metavar="TOPIC", default="")
@_options
@replay_rebuild.options
@replay_redrive.options
@replay_outbox.option
@replay_whatif.option
@replay_projection.option
@actor
@_json
def start(source: str, job: str, no_wait: bool, as_json: bool, **given: Any) -> None:
    """Send records of TOPIC again, or `rebuild`, `redrive`, `outbox`, `projection`, `what-if`.

    --from and --until are times of the log (2026-01-31T12:00:00Z), offsets (1200, or
    PARTITION:OFFSET,… such as 0:1200,3:900), or ids of records (a frame_id, say). Key, value and
    headers stay as they are; the header soma-replayed names where a record stood. Topics that
    processors read take no replays: a shadow is a namespace of its own, where other workers may
    read (SOMA_NAMESPACE).

    `rebuild` folds the state of --processor anew, from the log or its best snapshot, through the
    settings, policies and skips as they were, and compares every row with the live one; the status
    is 1 where rows differ. --apply puts them in the live one's place, in one transaction, while
    traffic goes on; so comes back what stands still with state_lost or records_gone. --shadow sends
    what the fold computes to the topics of a namespace of its own, each output once. It begins as
    early as the log allows, or where rows are lost with the newest snapshot, unless --from log or
    --from snapshot says so.

    `redrive` sends dead letters' records back to the topic where they failed, as `soma dlq redrive`
    does, each once for each failure; --from and --until are times when letters were written. --set
    FIELD=VALUE mends them first: VALUE is JSON, or else text.

    `outbox` puts events that failed (or --status) back into the outbox' queue, as `soma outbox
    replay` does; --from and --until are times when they were added, --topic may end with `*`.

    `projection` makes the table of --target anew from its topic, beside the live one, whose readers
    see the old rows until all of the new take their place at once. Refused where the table has rows
    of records that the topic no longer has: --partial lets them go. Stopped, it leaves the table as
    it is.

    `what-if` folds a stretch of the past of each --tenant twice (without: of all tenants together),
    as it was and with the settings of --set, and shows what differs, who leads, what it costs and
    where the boundaries are; --to says where it ends. It writes nothing, and folds the one
    processor of --set: what comes behind that would see other records, and isn't folded. A what-if
    that is paused begins anew.

    Shows how far the job is until it is done; Ctrl-C leaves it running.

    \b
    Example:
      soma replay start cog.observations --shadow try --dry-run
      soma replay start redrive --topic cog.observations --reason law_failed
      soma replay start redrive --topic cog.observations --set 'vector=[1, 2, 3]' --dry-run
      soma replay start cog.predictor.updates --shadow try --where 'error_metric > `0.5`'
      soma replay start rebuild --processor integrator --apply
      soma replay start rebuild --processor predictors --shadow try --dry-run
      soma replay start outbox --tenant orders --dry-run
      soma replay start projection --target segments --dry-run
      soma replay start what-if --set integrator.fusion=hedge --tenant cpu
      soma replay start what-if --set integrator.share=0.01 --dry-run
    """
    end(started(_record(source, given), job, no_wait), as_json)


def started(record: dict[str, Any], job: str = "", no_wait: bool = False) -> dict[str, Any]:
    """Start a job, and follow it until it is over or rests; its last status. ClickException."""
    from agents.replay.client import OVER, Statuses, command, new_id

    settings = load()
    name = job or new_id(record["mode"])
    with _told(), Statuses(settings, name) as statuses:
        lists = {key: list(one) if isinstance(one, tuple) else one for key, one in record.items()}
        first = _said(settings, statuses, command({"id": name, "type": "start"} | lists))
        return first if no_wait or first["state"] in OVER else _followed(statuses, first)


def _record(source: str, given: dict[str, Any]) -> dict[str, Any]:
    """A start command, but for its id. ClickException."""
    if (record := replay_projection.record_of(source, given)) is not None:
        return record
    if replay_whatif.is_it(source, given):
        return replay_whatif.record_of(given)
    if not source or given["shadow"] == replay_whatif.UNNAMED:
        raise click.ClickException("give " + ("--shadow a name" if source else "a TOPIC"))
    if (record := replay_outbox.record_of(source, given)) is not None:
        return record
    return replay_redrive.record_of(source, given) or replay_rebuild.record_of(source, given)


@replay.command()
@click.argument("job")
@_json
def status(job: str, as_json: bool) -> None:
    """Show how a job is.

    \b
    Example:
      soma replay status nightly
    """
    found = last_of(job)
    if job not in found:
        raise click.ClickException(f"there is no job {job}; `soma replay list` shows which are")
    _show(found[job], as_json)


@replay.command("list")
@_json
def list_(as_json: bool) -> None:
    """Show all jobs of the last 30 days, the latest last.

    \b
    Example:
      soma replay list
    """
    from agents.replay.client import shown

    found = sorted(last_of(None).values(), key=lambda one: int(one["ts"]))
    if as_json:
        click.echo(json.dumps({"jobs": [shown(one) for one in found]}))
        return
    for one in found:
        click.echo(_line(one))
    if not found:
        click.echo("There are no jobs.", err=True)


@replay.command()
@click.argument("job")
@actor
@_json
def pause(job: str, as_json: bool, actor: str) -> None:
    """Let a job rest where it is.

    \b
    Example:
      soma replay pause nightly
    """
    _command(job, "pause", actor, as_json)


@replay.command()
@click.argument("job")
@actor
@_json
def resume(job: str, as_json: bool, actor: str) -> None:
    """Let a job go on that rests.

    \b
    Example:
      soma replay resume nightly
    """
    _command(job, "resume", actor, as_json)


@replay.command()
@click.argument("job")
@actor
@_json
def stop(job: str, as_json: bool, actor: str) -> None:
    """End a job for good; what it has sent stays.

    \b
    Example:
      soma replay stop nightly
    """
    _command(job, "stop", actor, as_json)


def _command(job: str, type_: str, actor: str, as_json: bool) -> None:
    _show(ordered(job, type_, actor), as_json)


def ordered(job: str, type_: str, actor: str) -> dict[str, Any]:
    """Command a job; how it is then. ClickException."""
    from agents.replay.client import Statuses, command

    settings = load()
    with _told(), Statuses(settings, job) as statuses:
        said = _said(settings, statuses, command({"id": job, "type": type_, "actor": actor}))
    if said["state"] == "refused":
        raise click.ClickException(plain(said["message"]))
    return said


def _said(settings: "Settings", statuses: "Statuses", record: dict[str, Any]) -> dict[str, Any]:
    """Say a command; its first answer."""
    from agents.replay.client import say as tell

    tell(settings, record)
    return statuses.answer(record["id"], record["type"], ANSWER_S)


def last_of(job: str | None) -> dict[str, dict[str, Any]]:
    """The last status of each job; of one, only its partition is read."""
    from agents.replay.client import Statuses

    with _told(), Statuses(load(), job, past=True) as statuses:
        return statuses.last()


@contextmanager
def _told() -> Iterator[None]:
    """Say in one line what doesn't work."""
    from agents.replay.client import NobodyAnswersError

    try:
        yield
    except (NobodyAnswersError, BadRecord) as error:
        raise click.ClickException(str(error)) from error


def _followed(statuses: "Statuses", first: dict[str, Any]) -> dict[str, Any]:
    """Show how far a job is, until it is over or rests; its last status."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from agents.replay.client import OVER, NobodyAnswersError

    name, last = first["id"], first
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    terminal = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not terminal) as bar:
        task = bar.add_task(name, total=None)
        try:
            for said in statuses.of(name, SILENCE_S):
                last = said or last
                if last["state"] in (*OVER, "paused"):
                    return last
                what = plain(last["message"]) or f"{counted(last['read'], 'record')} read"
                text = f"{plain(name)}: {last['state']}, {what}"
                of = last["total"] or None
                bar.update(task, total=of, completed=last["done"], description=text)
        except KeyboardInterrupt:
            say(f"{name} goes on: soma replay status|pause|stop {name}")
            raise
    raise NobodyAnswersError(
        f"nothing was heard of {name} for {SILENCE_S:g} s. It goes on when a worker does; `soma "
        f"replay status {name}` shows it"
    )


def end(last: dict[str, Any], as_json: bool) -> None:
    """The result; a job that failed or was refused is an error."""
    if last["state"] in ("refused", "failed"):
        if as_json:
            _show(last, as_json)
        raise click.ClickException(f"{last['id']} {last['state']}: {plain(last['message'])}")
    _show(last, as_json)
    if last["state"] == "stopped" or replay_rebuild.unlike(last):
        sys.exit(1)


def _show(status: dict[str, Any], as_json: bool) -> None:
    from agents.replay.client import shown

    data = shown(status)
    if as_json:
        click.echo(json.dumps(data))
        return
    click.echo(_line(status))
    plan, size = data["plan"] or {}, f"{status['sent_bytes']:,} bytes"
    if status["mode"] in LINES:
        for line in LINES[status["mode"]](plan):
            click.echo(line)
        if plan.get("dry_run") and status["sent"]:
            click.echo(f"  {size}")
    elif "ranges" in plan:
        click.echo(f"  {plan['source']} to {plan['target']}: {size}")
        for partition, (first, end) in plan["ranges"].items():
            click.echo(f"  partition {partition}: offsets {first} to {end}")
    if "times" in plan:
        first, last = (datetime.fromtimestamp(one / 1000, UTC) for one in plan["times"])
        click.echo(f"  written {first.isoformat()} to {last.isoformat()}")
    for tenant, count in plan.get("tenants", {}).items():
        click.echo(f"  {plain(tenant)}: {counted(count, 'record')}")
    for missing in plan.get("missing", []):
        click.echo(f"  missing: {missing}")
    for line in replay_redrive.lines_of(plan):
        click.echo(line)


def _line(status: dict[str, Any]) -> str:
    """A job in a line."""
    done = f"{100 * status['done'] / status['total']:.0f} %" if status["total"] else ""
    words = [plain(status["id"]), status["state"], done]
    done_to = OWN_VERBS.get(status["mode"], VERBS)
    sent = done_to['"dry_run":true' in status["plan"]]
    words.append(f"{counted(status['read'], 'record')} read, {status['sent']:,} {sent}")
    if status["state"] == "running" and status["left_s"] is not None:
        words.append(f"{status['rate']:,.0f}/s, {status['left_s']:,.0f} s left")
    return "  ".join([one for one in words if one] + [plain(status["message"])]).rstrip()
