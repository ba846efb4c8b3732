"""What the commands about the past share: which processor, what is wrong around us, how far."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from confluent_kafka import KafkaException

from agents.tools.output import say
from agents.tools.times import text_micros
from topics.broker import BrokerError
from topics.partition import partition_of

if TYPE_CHECKING:
    from agents.engine.plan import Plan
    from agents.history.moments import Moment
    from agents.history.states import Past
    from agents.settings import Settings

TELL_S = 5.0
TENANT = re.compile(r"[A-Za-z0-9._-]{1,128}")
PLACE = re.compile(r"(?:(\d{1,9})/)?(\d{1,18})")  # of a partition, if said, and an offset

tenant_option = click.option("--tenant", default="", help="Only this tenant's.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@contextmanager
def in_a_line(settings: "Settings") -> Iterator[None]:
    """Say in one line what the broker refuses, and what of the past isn't there."""
    from agents.history.errors import HistoryError

    try:
        yield
    except KafkaException as error:
        why = error.args[0].str()
        raise click.ClickException(f"Kafka at {settings.bootstrap()}: {why}") from error
    except (BrokerError, HistoryError) as error:
        raise click.ClickException(str(error)) from error


def plan_named(settings: "Settings", name: str) -> "Plan":
    """The plan of a processor, with as many partitions as its source has. ClickException."""
    from agents.engine.registry import processor_names, processors
    from agents.history.plans import plan_of

    if name not in processor_names():
        listed = ", ".join(processor_names())
        raise click.ClickException(f"There is no processor {name!r}; there are {listed}.")
    with in_a_line(settings):
        return plan_of(settings, processors([name])[name])


def partitions_of(plan: "Plan", tenant: str, partition: int | None) -> list[int]:
    """Those that were asked for; all without a word. ClickException."""
    if tenant:
        home = home_of(plan, tenant)
        if partition not in (None, home):
            raise click.ClickException(f"{tenant} lives in partition {home}, not {partition}.")
        return [home]
    if partition is None:
        return list(range(plan.partitions))
    if not 0 <= partition < plan.partitions:
        raise click.ClickException(
            f"{plan.source} has the partitions 0 to {plan.partitions - 1}, not {partition}."
        )
    return [partition]


def home_of(plan: "Plan", tenant: str) -> int:
    """The partition of a tenant; ClickException for what can't be one."""
    if not TENANT.fullmatch(tenant):
        raise click.ClickException(f"{tenant!r} can't be a tenant: 1 to 128 of A-Z a-z 0-9 . _ -")
    return partition_of(tenant, plan.partitions)


def moment(
    ctx: click.Context, param: click.Parameter, value: str | tuple[str, ...] | None
) -> "Moment | tuple[Moment, ...] | None":
    """A moment, or several: a time, an offset, or PARTITION/OFFSET."""
    if value is None or isinstance(value, str):
        return None if value is None else _moment(value)
    return tuple(map(_moment, value))


def _moment(text: str) -> "Moment":
    from agents.history.moments import Moment

    if found := PLACE.fullmatch(text):
        return Moment(text, int(found[2]), int(found[1]) if found[1] else None)
    try:
        return Moment(text, micros=text_micros(text))
    except ValueError as error:
        why = f"{error}, nor an offset or PARTITION/OFFSET"
        raise click.BadParameter(why) from error


class Meter:
    """Says every few seconds how far a fold is, on standard error."""

    def __init__(self, until: Callable[[], int | None]) -> None:
        """`until`: the offset at which it ends, as far as is known."""
        self._until = until
        self._at = time.monotonic() + TELL_S
        self._before = 0

    def __call__(self, past: "Past") -> None:
        now = time.monotonic()
        if now < self._at:
            return
        rate = (past.records - self._before) / (now - self._at + TELL_S)
        self._at, self._before = now + TELL_S, past.records
        end = self._until()
        of = f" of {end:,}" if end else ""
        say(f"{past.where}: offset {past.at:,}{of}, {rate:,.0f} records/s")


def data_of_position(position: Any) -> dict[str, Any] | None:
    """A position as JSON data."""
    if position is None:
        return None
    return {
        "next_offset": position.next_offset, "epoch": position.epoch, "topic_id": position.topic_id
    }  # fmt: skip
