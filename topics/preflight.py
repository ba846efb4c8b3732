"""Whether the broker's topics are as the catalogue wants them, and making them so.

`plan` names every difference at once; `apply` settles what can be settled without losing or
re-keying anything, or nothing at all; `check_topics` is what a worker asks before it starts.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from topics.broker import (
    BrokerError,
    Found,
    alter,
    connect,
    create_all,
    look,
    seen,
    topic_ids,
    wait_for,
)
from topics.catalogue import CATALOGUE, DLQ_EXTRA_BYTES, Topic, dlq_of
from topics.chosen_ids import EPOCHS, MARK, contradiction, mark
from topics.plugins import bringer_of

__all__ = [
    "BrokerError", "BrokerSettings", "CannotApplyError", "Difference", "apply", "check_topics",
    "compare", "plan", "topic_ids",
]  # fmt: skip

SAY_PARTITIONS = (
    "Say how many partitions: SOMA_TOPICS_PARTITIONS or --partitions (24 is a good start). "
    "The number is for good: another one would send tenants away from their state."
)


# Partitions can't be taken away again, and until the product can grow, more of them have no state.
WAY_BACK = (
    "Stop the producers and let the lag come to 0, keep what is in partitions {partitions} and up "
    "(`soma watch`), delete the topic, let `soma topics apply` make it again, and publish what was "
    "kept"
)


class BrokerSettings(Protocol):
    """What preflight needs to know of the deployment (`agents.settings.Settings` has it)."""

    @property
    def topics_partitions(self) -> int | None: ...

    @property
    def topics_replication(self) -> int: ...

    def topic(self, name: str) -> str: ...

    def librdkafka(self, **more: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing about one topic that isn't as wanted.

    `kind` is missing, partitions, replication, config or ids. `refused`: a worker must not start
    so. `fixable`: `apply` can settle it.
    """

    topic: str  # as on the broker
    kind: str
    detail: str
    refused: bool
    fixable: bool
    setting: str = ""
    want: str = ""

    def __str__(self) -> str:
        return f"{self.topic}: {self.detail}"


class CannotApplyError(Exception):
    """Some differences can't be settled without loss; nothing was changed."""

    def __init__(self, differences: list[Difference]) -> None:
        lines = "\n  ".join(map(str, differences))
        super().__init__(f"Nothing was changed, for these can't be applied:\n  {lines}")
        self.differences = differences


def plan(
    settings: BrokerSettings, names: Iterable[str] = CATALOGUE, partitions: int | None = None
) -> list[Difference]:
    """Every difference between the catalogue and the broker, in the catalogue's order.

    `names` are without the namespace. Without `partitions` (or the setting) the count that most
    of the topics have is the wanted one. Raises `BrokerError`.
    """
    return _Plan(settings, names, partitions).differences()


def check_topics(settings: BrokerSettings, names: Iterable[str]) -> list[Difference]:
    """The differences with which a worker must not start; empty if it may. Raises `BrokerError`."""
    return [one for one in plan(settings, names) if one.refused]


def apply(
    settings: BrokerSettings, names: Iterable[str] = CATALOGUE, partitions: int | None = None
) -> list[Difference]:
    """Settle all differences; returns those settled. A second call finds none.

    Raises `CannotApplyError`, having changed nothing, if one of them can't be; `ValueError` if
    topics are missing and nothing says how many partitions; `BrokerError`.
    """
    todo = _Plan(settings, names, partitions)
    differences = todo.differences()
    if stuck := [one for one in differences if not one.fixable]:
        raise CannotApplyError(stuck)
    missing = [one.topic for one in differences if one.kind == "missing"]
    if missing and todo.partitions is None:
        raise ValueError(SAY_PARTITIONS)
    if missing:
        todo.create(missing)
    for name in {one.topic: None for one in differences if one.kind == "config"}:
        alter(todo.admin, name, {d.setting: d.want for d in differences if d.topic == name})
    wait_for(todo.admin, missing)
    if left := plan(settings, todo.names, todo.partitions):
        lines = "\n  ".join(map(str, left))
        raise BrokerError(f"The broker took the changes, and yet:\n  {lines}")
    return differences


class _Plan:
    """One look at the broker, beside what is wanted of it."""

    def __init__(
        self, settings: BrokerSettings, names: Iterable[str], partitions: int | None
    ) -> None:
        self.settings = settings
        self.names = tuple(dict.fromkeys((*mark(), *names)))
        self.replication = settings.topics_replication
        self.admin = connect(settings.librdkafka())
        rows = CATALOGUE | mark()
        self.topics = {settings.topic(name): rows[name] for name in self.names}
        self.dlqs = {settings.topic(dlq_of(name)): settings.topic(name) for name in self.names}
        self.found = look(self.admin, {*self.topics, *self.dlqs.values()})
        self.there = self.found.keys() | seen(self.admin, map(settings.topic, (MARK, EPOCHS)))
        self.partitions = partitions or settings.topics_partitions or self._usual()

    def differences(self) -> list[Difference]:
        if why := contradiction(self.there, self.settings):
            name = self.settings.topic(MARK)
            return [Difference(name, "ids", f"of this installation, {why}", True, False)]
        return [
            _of_package(one, topic)
            for name, topic in self.topics.items()
            for one in compare(
                name, self.found.get(name), self.wanted(name, topic), self.partitions,
                self.replication,
            )
        ]  # fmt: skip

    def wanted(self, name: str, topic: Topic) -> dict[str, str]:
        """The settings wanted of a topic; a dead letter must fit whatever its source's limit is."""
        config = wanted_config(topic, self.replication)
        source = self.found.get(self.dlqs.get(name, ""))
        if source is not None:
            limit = int(source.config["max.message.bytes"]) + DLQ_EXTRA_BYTES
            config["max.message.bytes"] = str(max(limit, int(config["max.message.bytes"])))
        return config

    def create(self, names: Iterable[str]) -> None:
        wanted = {name: self.wanted(name, self.topics[name]) for name in names}
        create_all(self.admin, wanted, self.partitions or 0, self.replication)

    def _usual(self) -> int | None:
        counts = Counter(self.found[name].partitions for name in self.topics if name in self.found)
        return max(counts, key=lambda n: (counts[n], n)) if counts else None


def _of_package(found: Difference, topic: Topic) -> Difference:
    """The difference, with who wants it so where that is a package that was brought."""
    package = bringer_of(topic.name)
    said = f"{found.detail} (declared by {package})"
    return replace(found, detail=said) if package else found


def wanted_config(topic: Topic, replication: int) -> dict[str, str]:
    """The broker's settings for a topic, at a replication factor.

    With three replicas two must have a record before it counts; with fewer, one.
    """
    insync = min(2, max(1, replication - 1))
    return {**topic.settings(), "min.insync.replicas": str(insync)}


def compare(
    name: str,
    found: Found | None,
    wanted: Mapping[str, str],
    partitions: int | None,
    replication: int,
) -> Iterator[Difference]:
    """How a topic on the broker (None: it isn't there) falls short. More than wanted is well."""
    if found is None:
        yield Difference(name, "missing", "missing", refused=True, fixable=True)
        return
    if partitions is not None and found.partitions != partitions:
        detail = (
            f"has {found.partitions} partition(s), not {partitions}; "
            "changing the count would send tenants away from their state"
        )
        if found.partitions > partitions:
            detail += f". {WAY_BACK.format(partitions=partitions)}"
        yield Difference(name, "partitions", detail, refused=True, fixable=False)
    if found.replication < replication:
        detail = (
            f"has {found.replication} replica(s), not {replication}; reassign its partitions "
            "with Kafka's own tools, or set SOMA_TOPICS_REPLICATION"
        )
        yield Difference(name, "replication", detail, refused=True, fixable=False)
    for setting, want in wanted.items():
        have = found.config.get(setting, "")
        if not _RULES[setting].enough(have, want):
            yield _config_difference(name, setting, have, want)


def _config_difference(name: str, setting: str, have: str, want: str) -> Difference:
    rule = _RULES[setting]
    detail = f"{setting} is {have or 'unknown'}, not {rule.words}{want}"
    # A compacted topic that starts to delete loses old records: nobody's choice but the operator's.
    deletes = setting == "cleanup.policy" and "delete" in want and "delete" not in have
    if deletes:
        detail += "; old records would be deleted, so change it by hand if that is meant"
    refused = rule.refused or want == "-1"
    return Difference(name, "config", detail, refused, not deletes, setting, want)


@dataclass(frozen=True, slots=True)
class _Rule:
    enough: Callable[[str, str], bool]  # (have, want)
    words: str
    refused: bool  # whether a worker must not start with less


def _same(have: str, want: str) -> bool:
    return set(have.split(",")) == set(want.split(","))


def _at_least(have: str, want: str) -> bool:
    return have != "" and int(have) >= int(want)


def _lasts(have: str, want: str) -> bool:
    return have == "-1" or (want != "-1" and _at_least(have, want))


def _at_most(have: str, want: str) -> bool:
    return have != "" and float(have) <= float(want)


_RULES = {
    "message.timestamp.type": _Rule(_same, "", refused=True),
    "cleanup.policy": _Rule(_same, "", refused=True),
    "min.insync.replicas": _Rule(_at_least, "at least ", refused=True),
    "max.message.bytes": _Rule(_at_least, "at least ", refused=True),
    # How long records live is the operator's business, unless they must live for ever.
    "retention.ms": _Rule(_lasts, "at least ", refused=False),
    "retention.bytes": _Rule(_lasts, "at least ", refused=False),
    # These make recovery slow, not wrong.
    "segment.bytes": _Rule(_at_most, "at most ", refused=False),
    "min.cleanable.dirty.ratio": _Rule(_at_most, "at most ", refused=False),
    "max.compaction.lag.ms": _Rule(_at_most, "at most ", refused=False),
    # Shorter, a processor that was away misses what was replaced meanwhile.
    "min.compaction.lag.ms": _Rule(_at_least, "at least ", refused=False),
}
