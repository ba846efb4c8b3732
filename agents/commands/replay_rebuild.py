"""What `soma replay start rebuild` is told, and what is shown of such a job."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import click

from agents.tools.output import counted, plain

MODE = "rebuild"
LOSS = re.compile(r"(?:(\d{1,9}):)?(\d{1,18})\.\.(\d{1,18})")
F = TypeVar("F", bound=Callable[..., Any])
BEGINS = ("log", "snapshot")
NOT_OF_IT = ("target", "domains", "predicate", "since", "until", "partial")

OPTIONS = (
    click.option("--processor", default="", help="Of rebuild: whose state is made anew."),
    click.option("--apply", is_flag=True, help="Of rebuild: put it in the live one's place."),
    click.option(
        "--accept-loss", "losses", multiple=True, metavar="[PARTITION:]FROM..TO",
        help="Of rebuild: these offsets, and no others, may be missing. Audited.",
    ),
    click.option(
        "--folded-to", "folded", multiple=True, metavar="PARTITION:OFFSET",
        help="Of rebuild: all before was folded, where outputs don't tell. Audited.",
    ),
)  # fmt: skip


def options(command: F) -> F:
    """Give a command the options of a rebuild."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def record_of(source: str, given: dict[str, Any]) -> dict[str, Any]:
    """The command's record, but for its id: a rebuild's, or that of a topic. ClickException."""
    own = {name: given.pop(name) for name in ("processor", "apply", "losses", "folded")}
    if source != MODE:
        if any(own.values()):
            raise click.ClickException(
                "--processor, --apply, --accept-loss and --folded-to are of rebuild"
            )
        return {"mode": "republish", "source": source, **given}
    if not own["processor"]:
        raise click.ClickException("give --processor: whose state is to be made anew")
    begin = given["since"] if given["since"] in BEGINS else ""
    if any(given[name] for name in NOT_OF_IT if not (begin and name == "since")):
        raise click.ClickException(
            "a rebuild takes --processor, --tenant, --apply, --accept-loss, --folded-to, --shadow, "
            "--dry-run, --rate, --id, and --from log or snapshot"
        )
    record = {"mode": MODE, **given, "target": own["processor"], "apply": own["apply"]}
    record |= {"since": "", "begin": begin, "folded_to": ",".join(own["folded"])}
    return record | _missing(own["losses"])


def _missing(losses: tuple[str, ...]) -> dict[str, Any]:
    """What may be missing, as a range: FROM and TO are both lost, `until` isn't."""
    if not losses:
        return {}
    since, until = [], []
    for one in losses:
        found = LOSS.fullmatch(one)
        if found is None or int(found[2]) > int(found[3]) or (not found[1] and len(losses) > 1):
            raise click.ClickException(
                f"--accept-loss {one}: [PARTITION:]FROM..TO, such as 3:120..149; with several "
                "each says its partition"
            )
        prefix = f"{found[1]}:" if found[1] else ""
        since.append(f"{prefix}{found[2]}")
        until.append(f"{prefix}{int(found[3]) + 1}")
    return {"partial": True, "since": ",".join(since), "until": ",".join(until)}


def lines_of(plan: Mapping[str, Any]) -> Iterator[str]:
    """What a rebuild found, or of a dry run what it would fold, for people."""
    for partition, (first, end) in plan.get("ranges", {}).items() if plan.get("dry_run") else ():
        yield (
            f"  partition {partition}: offsets {first} to {end} of {plan['source']}, from "
            f"{plan['begins'][partition]}"
        )
    for partition, one in plan.get("partitions", {}).items():
        unlike = one["differ"]
        said = f"{counted(unlike, 'row differs', 'rows differ')}" if unlike else "equal"
        yield (
            f"  partition {partition}: {said}, {counted(one['rows_anew'], 'row')} from "
            f"{one['from']} to offset {one['to']}{_applied(one)}"
        )
        for note in one["notes"]:
            yield f"    note: {plain(note)}"
        for row in one["differing"]:
            yield f"    {plain(_row(row))}"
    sent = plan.get("sent", {})
    for name, one in plan.get("targets", {}).items():
        outputs = "outputs" if plan.get("dry_run") else counted(sent.get(name, 0), "output")
        yield f"  {outputs} of {name} to {one['topic']}"


def unlike(status: Mapping[str, Any]) -> bool:
    """Whether rows differ that weren't put right."""
    if status["mode"] != MODE or not status["plan"]:
        return False
    plan = json.loads(status["plan"])
    return bool(plan.get("differ")) and not plan["apply"]


def _applied(one: Mapping[str, Any]) -> str:
    done = one.get("applied")
    if not done:
        return ""
    lost = f", without offsets {done['lost']}" if done["lost"] else ""
    return f"; applied, {counted(done['written'], 'row')} written{lost}"


def _row(row: Mapping[str, Any]) -> str:
    if "only" in row:
        return f"{row['key']}: only {row['only']}"
    fields = (
        ", ".join(f"{name} {value} {side}" for side, value in sides.items())
        for name, sides in row.get("fields", {}).items()
    )
    return f"{row['key']}: " + ("; ".join(fields) or "differs")
