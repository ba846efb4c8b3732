"""Who of a group runs which processors on which partitions.

Workers may run different processors of one source. So a partition is dealt out once for each of
them, to a member that runs it, and may go to two members; the broker minds neither. Members say in
their metadata what they run, and are told in their assignment what of it is theirs.

They also say what they have, and whoever has a partition keeps it where that leaves nobody with
more than his share: a move costs a recovery. As in Kafka's cooperative protocol (KIP-429) nobody
lets go before it is known what has to go, but in one round: what is moved is fenced by its
new owner, so the old one needn't be waited for.
"""

import itertools
import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from pydantic import TypeAdapter, ValidationError

from topics.catalogue import keeper_of

if TYPE_CHECKING:  # the HTTP API reads what members say, and folds nothing
    from agents.engine.plan import Plan

log = logging.getLogger(__name__)

URL = "@url"  # beside the topics of a member: where its web pages are; no topic is called so
HAS = "@has"  # and what it has: "processor topic/1,2,5"
SINCE = "@since"  # as of which generation of the group
HINTS = "@hints"  # beside a topic's processors: the partitions whose offsets the group is told
Dealt = dict[str, dict[str, list[int]]]  # topic -> processor -> partitions
_RUNS = TypeAdapter(dict[str, list[str]])  # topic -> processors
_DEALT = TypeAdapter(Dealt)


class ProcessorAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """aiokafka's round robin, by processor, and by our own name.

    The broker then lets nobody into the group who can't deal out processors: a consumer that
    happens to use the group's name would be given partitions and fold nothing. Members that don't
    say what they run (a version before) run the keeper of each topic: there was no other then.
    """

    name = "soma"
    runs: ClassVar[Mapping[str, list[str]]] = {}  # topic -> processors of it in this process
    keepers: ClassVar[Mapping[str, str]] = {}  # topic -> its keeper
    url: ClassVar[str] = ""  # of this process' web pages; empty: it has none
    dealt: ClassVar[Dealt | None] = None  # to this process; None: it isn't said
    since: ClassVar[int] = -1  # the group's generation that dealt it
    missed: ClassVar[bool] = False  # a generation before: others may have had what is ours
    undealt: ClassVar[frozenset[str]] = frozenset()  # topics that we as the leader don't know (yet)

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        cls.undealt = frozenset()
        said = {topic: cls.runs.get(topic, []) for topic in topics}
        said |= {URL: [cls.url]} if cls.url else {}
        said |= {HAS: told(cls.dealt), SINCE: [str(cls.since)]} if cls.dealt else {}
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), json.dumps(said).encode())

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Deal out the topics whose partitions are known; `undealt` are the others.

        A broker that has just started may name no partition. Whoever reads such a topic is told
        nothing of it, which isn't the same as being told that none of its partitions is his.
        """
        running = {one: cls._running(one, metadata) for one, metadata in members.items()}
        topics = {topic for one in running.values() for topic in one}
        known = {t: found for t in topics if (found := cluster.partitions_for_topic(t))}
        cls.undealt = frozenset(topics - known.keys())
        if cls.undealt:
            log.warning("the broker names no partition (yet) of %s", ", ".join(sorted(cls.undealt)))
        dealt = deal(running, known, owners_of(members))
        found = {}
        for member in members:
            mine = dealt[member]
            places = ((t, sorted(set(itertools.chain(*d.values())))) for t, d in mine.items())
            said = json.dumps(cls._hints(mine, dealt)).encode()
            found[member] = ConsumerProtocolMemberAssignment(
                cls.version, sorted(place for place in places if place[1]), said
            )
        return found

    @classmethod
    def _hints(cls, mine: Dealt, dealt: Mapping[str, Dealt]) -> Dealt:
        """A member's part with the partitions whose offsets it tells the group.

        The group has one offset of each, so it is that of one processor: the topic's keeper, or
        the first that there is.
        """
        found: Dealt = {}
        for topic, processors in mine.items():
            there = sorted({name for one in dealt.values() for name in one.get(topic, ())})
            keeper = cls.keepers.get(topic)
            first = keeper if keeper in there else there[0] if there else ""
            found[topic] = {**processors, HINTS: list(processors.get(first, ()))}
        return found

    @classmethod
    def _running(
        cls, member: str, metadata: ConsumerProtocolMemberMetadata
    ) -> dict[str, list[str]]:
        topics = metadata.subscription
        if not metadata.user_data:
            return {topic: [cls.keepers.get(topic, "")] for topic in topics}
        try:
            said = _RUNS.validate_json(metadata.user_data, strict=True)
        except ValidationError:
            log.warning(
                "%s is in the group and gets nothing: it says unreadably what it runs", member
            )
            said = {}
        return {topic: said.get(topic, []) for topic in topics}

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        cls.dealt = None
        if assignment.user_data:
            try:
                cls.dealt = _DEALT.validate_json(assignment.user_data, strict=True)
            except ValidationError:
                log.error("the group's leader says unreadably what is ours: nothing, then")
                cls.dealt = {}

    @classmethod
    def met(cls, generation: int) -> None:
        """The group met, for the so-manieth time."""
        cls.missed, cls.since = generation != cls.since + 1, generation

    @classmethod
    def unsaid(cls) -> list[str]:
        """Topics that we read, of which the group's leader hasn't said whose they are."""
        return [] if cls.dealt is None else sorted(cls.runs.keys() - cls.dealt.keys())

    @classmethod
    def ours(cls, topic: str, partition: int, processor: str) -> bool:
        """Whether a partition that was assigned to us is for this processor of ours."""
        return cls.dealt is None or partition in cls.dealt.get(topic, {}).get(processor, ())

    @classmethod
    def hints(cls, topic: str, partition: int) -> bool:
        """Whether we tell the group how far a partition is."""
        said = (cls.dealt or {}).get(topic, {})
        return HINTS not in said or partition in said[HINTS]  # a leader before us says nothing


class Member(NamedTuple):
    """A member as the broker describes the group: where its pages are, and what it was dealt."""

    url: str
    dealt: Dealt


def member_of(metadata: bytes, assignment: bytes) -> Member:
    """From what it said when it joined and was told; nothing where there is nothing of ours."""
    if not metadata or not assignment:
        return Member("", {})
    said = ConsumerProtocolMemberMetadata.decode(metadata).user_data
    told = ConsumerProtocolMemberAssignment.decode(assignment).user_data
    try:
        urls = _RUNS.validate_json(said or b"{}", strict=True).get(URL, [])
        dealt = _DEALT.validate_json(told or b"{}", strict=True)
    except ValidationError:
        return Member("", {})
    return Member(urls[0] if urls else "", dealt)


Unit = tuple[str, int, str]  # topic, partition, processor


def told(dealt: Dealt) -> list[str]:
    """What a member has, as it says it to the group's leader."""
    return [
        f"{processor} {topic}/{','.join(map(str, partitions))}"
        for topic, processors in sorted(dealt.items())
        for processor, partitions in sorted(processors.items())
        if partitions and processor != HINTS
    ]


_TOLD = re.compile(r"(\S+) (\S+)/(\d{1,9}(?:,\d{1,9})*)")


def owners_of(members: Mapping[str, ConsumerProtocolMemberMetadata]) -> dict[Unit, str]:
    """Who has what, as the members say. Of two, who was dealt it later: the other was away.

    What can't be read counts for nothing: its partitions are dealt out as if they were new.
    """
    found: dict[Unit, tuple[int, str]] = {}
    for member, metadata in sorted(members.items()):
        try:
            said = _RUNS.validate_json(metadata.user_data or b"{}", strict=True)
            since = int((said.get(SINCE) or ["-1"])[0])
        except ValueError:  # pydantic's are too
            continue
        for match in filter(None, map(_TOLD.fullmatch, said.get(HAS, ()))):
            processor, topic, partitions = match.groups()
            for partition in map(int, partitions.split(",")):
                unit = topic, partition, processor
                found[unit] = max(found.get(unit, (-2, "")), (since, member))
    return {unit: member for unit, (_, member) in found.items()}


class _Bucket:
    """The partitions of a topic's processors that run in the same members, and who gets which."""

    def __init__(self, topic: str, names: list[str], able: Iterable[str]) -> None:
        self.topic, self.names = topic, names
        self.given: dict[str, list[int]] = {member: [] for member in able}

    def least(self, load: Counter[str]) -> str:
        """Who has the fewest of these, and of such the fewest of all."""
        return min(self.given, key=lambda one: (len(self.given[one]), load[one], one))

    def most(self, load: Counter[str]) -> str:
        """Who has the most of these, and of such the most of all."""
        return max(self.given, key=lambda one: (len(self.given[one]), load[one], one))

    def move(self, old: str, new: str, load: Counter[str]) -> None:
        """One partition, the last that it has."""
        self.given[new].append(self.given[old].pop())
        load[old] -= 1
        load[new] += 1


def deal(
    running: Mapping[str, Mapping[str, list[str]]],
    partitions: Mapping[str, Iterable[int]],
    had: Mapping[Unit, str] | None = None,
) -> dict[str, Dealt]:
    """member -> what it gets: each partition once for each processor of its topic.

    Processors that run in the same members stay together: their partitions go to one member. Of
    such a bucket nobody gets two more than another who could have them, and of all together only
    where no bucket could mend it. Within that, what was `had` stays: dealt out again, the same
    comes out. Who gets nothing of a topic in `partitions` that it reads has an empty entry there.
    """
    had = had or {}
    load = Counter(dict.fromkeys(running, 0))
    buckets = _buckets(running, partitions)
    for bucket in buckets:
        left = []
        for partition in sorted(partitions[bucket.topic]):
            owner = had.get((bucket.topic, partition, bucket.names[0]), "")
            if owner in bucket.given:
                bucket.given[owner].append(partition)
                load[owner] += 1
            else:
                left.append(partition)
        for partition in left:
            member = bucket.least(load)
            bucket.given[member].append(partition)
            load[member] += 1
    for bucket in buckets:
        while True:
            most, least = bucket.most(load), bucket.least(load)
            if len(bucket.given[most]) - len(bucket.given[least]) < 2:
                break
            bucket.move(most, least, load)
    while move := _mending(buckets, load):
        bucket, most, least = move
        bucket.move(most, least, load)
    dealt: dict[str, Dealt] = {
        member: {topic: defaultdict(list) for topic in topics if topic in partitions}
        for member, topics in running.items()
    }
    for bucket in buckets:
        for member, given in bucket.given.items():
            for name in bucket.names if given else ():
                dealt[member][bucket.topic][name] += sorted(given)
    return dealt


def _buckets(
    running: Mapping[str, Mapping[str, list[str]]], partitions: Iterable[str]
) -> list[_Bucket]:
    found = []
    for topic in sorted(partitions):
        runners: dict[str, set[str]] = defaultdict(set)
        for member, topics in running.items():
            for processor in topics.get(topic, ()):
                runners[processor].add(member)
        together: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for processor, members in sorted(runners.items()):
            together[tuple(sorted(members))].append(processor)
        found += [_Bucket(topic, names, able) for able, names in together.items()]
    return found


def _mending(buckets: list[_Bucket], load: Counter[str]) -> tuple[_Bucket, str, str] | None:
    """A move from who has two more in all to who has less, that leaves its bucket as even."""
    by_load = sorted(load, key=lambda one: (load[one], one))
    for least, most in itertools.product(by_load, reversed(by_load)):
        if load[most] - load[least] < 2:
            continue
        for bucket in buckets:
            of = bucket.given
            if least in of and len(of.get(most, ())) > len(of[least]):
                return bucket, most, least
    return None


def name_keepers(plans: "Mapping[str, Plan]") -> None:
    """Say of whose sources the keeper runs elsewhere, or nowhere."""
    for plan in plans.values():
        keeper = keeper_of(plan.processor.source)
        if keeper not in plans:
            log.info(
                "what nobody can read of %s, or came to the wrong partition, is left to %s, "
                "which doesn't run here",
                plan.source, keeper or "nobody",
            )  # fmt: skip
