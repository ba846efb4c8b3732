"""Jobs of replay, as a client of Kafka starts and follows them."""

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from agents.replay.agent import COMMANDS, STATUS
from agents.replay.command import Command
from agents.replay.modes import Mode
from agents.settings import Settings
from tests.live.helpers import eventually, produce, read
from topics import codec
from topics.broker import create, wait_for

SOURCE = "cog.observations"


def make_topic(
    settings: Settings, name: str, partitions: int = 4, config: Mapping[str, str] | None = None
) -> str:
    """A topic of one's own; its name."""
    admin = AdminClient(settings.librdkafka())
    create(admin, settings.topic(name), partitions, 1, config or {})
    wait_for(admin, [settings.topic(name)])
    return name


def say(settings: Settings, id_: str, type_: str = "start", /, **more: Any) -> None:
    """A command, as plain JSON by a client that knows nothing of us."""
    base = {"mode": "republish", "source": SOURCE} if type_ == "start" else {}
    text = json.dumps({"id": id_, "type": type_} | base | more).encode()
    produce(settings, COMMANDS, [(id_.encode(), text)])


def statuses(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Everything that was said of each job, in order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for message in read(settings, STATUS):
        record = codec.decode(message.value() or b"")[1]
        found[record["id"]].append(record)
    return found


def await_state(settings: Settings, id_: str, state: str, timeout: float = 60.0) -> dict[str, Any]:
    """The last status of a job, once it is this."""

    def there() -> dict[str, Any] | None:
        said = statuses(settings)[id_]
        return said[-1] if said and said[-1]["state"] == state else None

    try:
        found = eventually(there, timeout, f"{id_} is {state}")
    except AssertionError as error:
        raise AssertionError(f"{error}; last: {statuses(settings)[id_][-1:]}") from error
    assert found is not None
    return found


async def few(wanted: int) -> int:
    """A turn of a budget: so many at most."""
    return min(wanted, 20)


async def ran(
    mode: Mode, command: Command, plan: Mapping[str, Any] | None = None, most: int = 1000
) -> tuple[int, Mapping[str, Any]]:
    """Do some steps of a job from its beginning; how much they count as sent, and its plan."""
    said, sent = plan or (await mode.plan(command, few)).said, 0
    async with aclosing(mode.steps(command, said, {}, few)) as steps:
        async for step in steps:
            sent += step.sent
            if (most := most - 1) == 0:
                break
    return sent, said


def observations(n: int, tenants: int = 7, since: int = 0) -> list[tuple[bytes, bytes]]:
    """n observations of some tenants; `sequence` numbers them."""
    now = time.time_ns() // 1000
    return [
        (
            (tenant := f"t{k % tenants}").encode(),
            codec.encode(
                "observation",
                {
                    "tenant": tenant, "domain": ("state", "agent")[k // tenants % 2], "ts": now,
                    "vector": b"\0" * 8, "sequence": since + k,
                },
            ),
        )
        for k in range(n)
    ]  # fmt: skip


def origin(message: Message) -> str:
    """Where a replayed record stood."""
    said = dict(message.headers() or [])
    value: Any = said["soma-replayed"]
    return str(value.decode())


def compare(
    settings: Settings, target: list[Message], source: list[Message], topic: str = SOURCE
) -> None:
    """Each source record is in the target once, with key and value as they were, in the order of
    each partition; AssertionError names the first that differs.
    """
    name = settings.topic(topic)
    wanted: Mapping[str, Message] = {
        f"{name}/{one.partition()}/{one.offset()}": one for one in source
    }
    places = [origin(one) for one in target]
    assert len(places) == len(set(places)), "something is doubled"
    assert set(places) == set(wanted), (len(places), len(wanted))
    for one, place in zip(target, places, strict=True):
        was = wanted[place]
        assert (one.key(), one.value()) == (was.key(), was.value()), place
    for partition in {one.partition() for one in target}:
        by_source: dict[str, int] = {}
        for one, place in zip(target, places, strict=True):
            if one.partition() == partition:
                part, _, offset = place.rpartition("/")
                assert by_source.get(part, -1) < int(offset), f"out of order: {place}"
                by_source[part] = int(offset)
