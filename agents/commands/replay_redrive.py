"""`soma replay start redrive`: dead letters back to their topic, as a job."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import click

from agents.tools.output import counted, plain
from topics.catalogue import source_of

MODE = "redrive"
TAKES = ("tenants", "since", "until", "partial", "dry_run", "rate_limit", "actor", "settings")
F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    click.option("--topic", default="", help="Of redrive: where the records failed; of outbox."),
    click.option("--reason", "reasons", multiple=True, help="Of redrive: only these reasons."),
    click.option(
        "--max-attempts", type=click.IntRange(1, 1000), default=None,
        help="Of redrive: so often at most, then park it.  [default: 3]",
    ),
)  # fmt: skip


def options(command: F) -> F:
    """Those of a redrive."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def record_of(source: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """A redrive's record, but for its id; None: it is another job's. ClickException."""
    own = {name: given.pop(name) for name in ("topic", "reasons", "max_attempts")}
    if source != MODE:
        if any(own.values()):
            raise click.ClickException(
                "--topic, --reason and --max-attempts are of redrive, --topic of outbox too"
            )
        return None
    if not own["topic"]:
        raise click.ClickException("give --topic: where the records failed")
    if any(value for name, value in given.items() if name not in TAKES):
        raise click.ClickException(
            "a redrive takes --topic, --reason, --tenant, --from, --until, --max-attempts, --set, "
            "--partial, --dry-run, --rate, --id"
        )
    own |= {"max_attempts": own["max_attempts"] or 0, "source": source_of(own.pop("topic"))}
    return {"mode": MODE} | own | {name: given[name] for name in TAKES}


def lines_of(plan: dict[str, Any]) -> Iterator[str]:
    """What became of letters that weren't sent."""
    if plan.get("mended"):
        yield f"  {counted(plan['mended'], 'letter')} mended"
    if plan.get("parked"):
        yield f"  {counted(plan['parked'], 'letter')} parked"
    for why, count in sorted(plan.get("refused", {}).items()):
        yield f"  {count:,} refused: {why}"
    for one in plan.get("named", [])[:10]:
        yield plain(f"    {one['place']}: {one['said']}")
