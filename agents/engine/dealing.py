"""Who of a group runs which processors on which partitions.

Workers may run different processors of one source. So a partition is dealt out once for each of
them, to a member that runs it, and may go to two members; the broker minds neither. Members say in
their metadata what they run, and are told in their assignment what of it is theirs.
"""

import itertools
import json
import logging
from collections import defaultdict
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
    undealt: ClassVar[frozenset[str]] = frozenset()  # topics that we as the leader don't know (yet)

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        cls.undealt = frozenset()
        said = {topic: cls.runs.get(topic, []) for topic in topics}
        said |= {URL: [cls.url]} if cls.url else {}
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
        dealt = deal(running, known)
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


def deal(
    running: Mapping[str, Mapping[str, list[str]]], partitions: Mapping[str, Iterable[int]]
) -> dict[str, Dealt]:
    """member -> what it gets: each partition once for each processor of its topic, in turns.

    Processors that run in the same members stay together: their partitions go to one member. Who
    gets nothing of a topic in `partitions` that it reads has an empty entry there.
    """
    dealt: dict[str, Dealt] = {
        member: {topic: defaultdict(list) for topic in topics if topic in partitions}
        for member, topics in running.items()
    }
    turn = itertools.cycle(sorted(running))
    for topic in sorted(partitions):
        runners: dict[str, set[str]] = defaultdict(set)
        for member, topics in running.items():
            for processor in topics.get(topic, ()):
                runners[processor].add(member)
        together: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for processor, members in sorted(runners.items()):
            together[tuple(sorted(members))].append(processor)
        for able, names in together.items():
            for partition in sorted(partitions[topic]):
                member = next(one for one in turn if one in able)
                for name in names:
                    dealt[member][topic][name].append(partition)
    return dealt


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
