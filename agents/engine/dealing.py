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
from typing import Any, ClassVar

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from agents.engine.plan import Plan
from topics.catalogue import keeper_of

log = logging.getLogger(__name__)

Dealt = dict[str, dict[str, list[int]]]  # topic -> processor -> partitions


class ProcessorAssignor(RoundRobinPartitionAssignor):  # type: ignore[misc]
    """aiokafka's round robin, by processor, and by our own name.

    The broker then lets nobody into the group who can't deal out processors: a consumer that
    happens to use the group's name would be given partitions and fold nothing. Members that don't
    say what they run (a version before) run the keeper of each topic: there was no other then.
    """

    name = "soma"
    runs: ClassVar[Mapping[str, list[str]]] = {}  # topic -> processors of it in this process
    keepers: ClassVar[Mapping[str, str]] = {}  # topic -> its keeper
    dealt: ClassVar[Dealt | None] = None  # to this process; None: it isn't said

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        said = json.dumps({topic: cls.runs.get(topic, []) for topic in topics})
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), said.encode())

    @classmethod
    def assign(
        cls, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        running = {member: cls._running(metadata) for member, metadata in members.items()}
        dealt = deal(running, {t: cluster.partitions_for_topic(t) or () for t in _topics(running)})
        found = {}
        for member in members:
            mine = dealt.get(member, {})
            places = sorted((t, sorted(set(itertools.chain(*d.values())))) for t, d in mine.items())
            said = json.dumps(mine).encode()
            found[member] = ConsumerProtocolMemberAssignment(cls.version, places, said)
        return found

    @classmethod
    def _running(cls, metadata: ConsumerProtocolMemberMetadata) -> dict[str, list[str]]:
        if metadata.user_data:
            said: dict[str, list[str]] = json.loads(metadata.user_data)
            return said
        return {topic: [cls.keepers.get(topic, "")] for topic in metadata.subscription}

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        cls.dealt = json.loads(assignment.user_data) if assignment.user_data else None

    @classmethod
    def ours(cls, topic: str, partition: int, processor: str) -> bool:
        """Whether a partition that was assigned to us is for this processor of ours."""
        return cls.dealt is None or partition in cls.dealt.get(topic, {}).get(processor, ())


def _topics(running: Mapping[str, Mapping[str, list[str]]]) -> set[str]:
    return {topic for one in running.values() for topic in one}


def deal(
    running: Mapping[str, Mapping[str, list[str]]], partitions: Mapping[str, Iterable[int]]
) -> dict[str, Dealt]:
    """member -> what it gets: each partition once for each processor of its topic, in turns.

    Processors that run in the same members stay together: their partitions go to one member.
    """
    dealt: dict[str, Dealt] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
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


def name_keepers(plans: Mapping[str, Plan]) -> None:
    """Say of whose sources the keeper runs elsewhere, or nowhere."""
    for plan in plans.values():
        keeper = keeper_of(plan.processor.source)
        if keeper not in plans:
            log.info(
                "what nobody can read of %s, or came to the wrong partition, is left to %s, "
                "which doesn't run here",
                plan.source, keeper or "nobody",
            )  # fmt: skip
