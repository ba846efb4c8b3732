"""What the verbs of `soma bench` share: where they run, and what becomes of their reports."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from agents.settings import load
from agents.tools.output import say

if TYPE_CHECKING:
    from agents.settings import Settings
    from ops.bench.report import Report
    from ops.bench.site import Site

as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
runs = click.option("--runs", type=click.IntRange(1), default=3, show_default=True)


def peers(text: str) -> tuple[str, ...]:
    """The peers that --peers names, or all."""
    from ops.bench.pipeline import PEERS, parse_peers

    try:
        return parse_peers(text) if text else PEERS
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--peers") from error


def parts(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Those of `known` that --parts names, in their order, or all."""
    all_ = tuple(known)
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if wrong := [name for name in asked if name not in all_]:
        says = f"no part {', '.join(wrong)}; there are {', '.join(all_)}"
        raise click.BadParameter(says, param_hint="--parts")
    return tuple(name for name in all_ if name in asked) or all_


def numbers(text: str, option: str, wanted: str, good: Callable[[int], bool]) -> tuple[int, ...]:
    """The whole numbers of "1,2,4"; `wanted` says in words which are good."""
    given = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and good(int(part)) for part in given):
        raise click.BadParameter(f"give {wanted}, with commas between", param_hint=option)
    return tuple(map(int, given))


@contextmanager
def settings() -> Iterator["Settings"]:
    """Settings with a broker that answers; what ends a benchmark is one message, no traceback."""
    from ops.bench.peers.kstreams import BuildError
    from ops.bench.pipeline import PeerError
    from ops.bench.site import NoBrokerError, on_broker
    from ops.bench.worker import WorkerError
    from ops.stack import StackError

    try:
        with on_broker(load(), say) as found:
            yield found
    except (BuildError, NoBrokerError, PeerError, StackError, TimeoutError, WorkerError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def site() -> Iterator["Site"]:
    """A namespace of its own on that broker."""
    from ops.bench.site import opened

    with settings() as found, opened(found, say) as one:
        yield one


def rates(found: Sequence[Any]) -> list[dict[str, float]]:
    """Rates as JSON data."""
    return [
        {"events_per_s": rate.events_per_s, "cpu_us_per_event": rate.cpu_us_per_event}
        for rate in found
    ]


def finish(report: "Report", data: object, as_json: bool) -> None:
    """Write the section of RESULTS.md, and print the table or the JSON."""
    finish_all([report], data, as_json)


def finish_all(reports: Iterable["Report"], data: object, as_json: bool) -> None:
    """As `finish`, of several sections, each as soon as it is there."""
    from ops.bench.report import show, write

    for report in reports:
        machine = write(report, click.get_current_context().obj)
        if not as_json:
            show(report, machine)
    if as_json:
        click.echo(json.dumps({"machine": machine, "result": data}))
