"""`soma replay start projection`: a table of PostgreSQL made anew, as a job."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from agents.tools.output import counted

MODE = "projection"
VERBS = ("became rows", "would become rows")
TAKES = ("partial", "dry_run", "rate_limit", "actor")

option = click.option(
    "--target", "projection", default="",
    help="Of projection: which one, as `soma projection list` names it.",
)  # fmt: skip


def record_of(source: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The command's record, but for its id; None: it is another job's. ClickException."""
    name = given.pop("projection")
    if source != MODE:
        if name:
            raise click.ClickException("--target is of projection; a topic is given by --to")
        return None
    if not name:
        raise click.ClickException("give --target: the projection that is to be made anew")
    if any(value for option, value in given.items() if option not in TAKES):
        raise click.ClickException(
            "a projection is made anew whole: it takes --target, --partial, --dry-run, --rate, --id"
        )
    return record(name, **{option: given[option] for option in TAKES})


def record(name: str, **more: Any) -> dict[str, Any]:
    """The command that makes a projection anew, but for its id."""
    return {"mode": MODE, "target": name, **more}


def lines_of(plan: Mapping[str, Any]) -> Iterator[str]:
    """What is made anew, for people."""
    if not plan:
        return
    yield f"  {plan['projection']} from {plan['source']}"
    for partition, (first, end) in plan["ranges"].items():
        yield f"  partition {partition}: offsets {first} to {end}"
    if plan["lost"]:
        said = counted(plan["lost"], "row")
        yield f"  {said} of records that the log no longer has: gone when it is in place"
    for why, count in sorted(plan.get("left_out", {}).items()):
        yield f"  {counted(count, 'record')} left out: {why}"
