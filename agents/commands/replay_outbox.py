"""`soma replay start outbox`: events put back into the outbox' queue, as a job."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

MODE = "outbox"
TAKES = ("tenants", "since", "until", "dry_run", "rate_limit", "actor", "status")

option = click.option(
    "--status", type=click.Choice(["failed", "skipped", "sent"]), default=None,
    help="Of outbox: what became of the events until now.  [default: failed]",
)  # fmt: skip


def record_of(source: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The command's record, but for its id; None: it is another job's. ClickException."""
    if source != MODE:
        if given.pop("status"):
            raise click.ClickException("--status is of outbox")
        return None
    if any(value for name, value in given.items() if name not in (*TAKES, "topic")):
        raise click.ClickException(
            "outbox takes --tenant, --status, --topic, --from, --until, --dry-run, --rate, --id"
        )
    own = {name: given[name] or "" for name in ("status", "topic")}
    return {name: given[name] for name in TAKES} | {
        "mode": MODE, "status": own["status"], "source": own["topic"],
    }  # fmt: skip


def lines_of(plan: Mapping[str, Any]) -> Iterator[str]:
    """Which events, for people."""
    if plan:
        yield f"  {plan['events']:,} events of the outbox that were {plan['status']}"
