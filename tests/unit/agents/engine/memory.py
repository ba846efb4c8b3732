"""A log in memory with transactions and fencing, and owners that run partitions on it.

Only what a partition sees of Kafka is here: whole batches at offsets, a marker behind each
transaction, producers that fence each other, commits that fail before or after they took effect.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
from aiokafka.errors import RequestTimedOutError
from faust.types import TP

from agents.engine.batches import RawBatch, raw_batch
from agents.engine.builder import HEADER, RawBuilder
from agents.engine.errors import Fenced
from agents.engine.partition import Partition
from agents.engine.plan import Plan, defaults_of
from agents.engine.position import Input, Position, Recovered, read_position
from agents.engine.processor import Fold
from agents.engine.producer import Transactions
from agents.engine.recovery import Loader, epoch_key
from agents.engine.transport import Fetched
from agents.engine.work import POSITION_KEY
from agents.engine.workspace import Outcome, Workspace
from tests.contract.harness import SETTINGS, TOPIC_ID, Message, Sent, batch_of, read
from topics import codec

BEFORE, AFTER = "before", "after"


class Log:
    """Topics and their partitions; what a transaction wrote is there at once and whole."""

    def __init__(self, ms: Callable[[], int]) -> None:
        self.ms = ms  # the broker's clock
        self.topic_id = TOPIC_ID
        self.batches: dict[TP, list[RawBatch]] = defaultdict(list)
        self.ends: dict[TP, int] = defaultdict(int)
        self.low = 0
        self.sent: dict[TP, list[Sent]] = defaultdict(list)
        self.owners: dict[str, int] = defaultdict(int)  # transactional id -> epoch
        self.faults: list[str] = []  # of the next commits
        self.transactions = 0

    def write(self, tp: TP, part: list[Message]) -> None:
        """Append one batch, whose offsets are the log's to give."""
        base = self.ends[tp]
        moved = [Message(base + i, m.key, m.value, m.headers) for i, m in enumerate(part)]
        data = bytearray(batch_of(moved).data)
        fields = list(HEADER.unpack_from(data))
        fields[7] = fields[8] = self.ms()
        HEADER.pack_into(data, 0, *fields)
        self.batches[tp].append(raw_batch(bytes(data)))
        self.ends[tp] = base + len(part)

    def commit(self, sends: Iterable[tuple[str, int, RawBuilder]]) -> None:
        """All of a transaction, and a marker in each of its partitions."""
        self.transactions += 1
        touched = set()
        for topic, partition, builder in sends:
            tp, found = TP(topic, partition), read(topic, partition, builder)
            touched.add(tp)
            self.sent[tp] += found
            self.write(tp, [Message(0, s.key, s.value, list(s.headers)) for s in found])
        for tp in touched:
            self.ends[tp] += 1

    def rows(self, tp: TP) -> dict[bytes, bytes]:
        """A state topic after compaction, its position row among them."""
        table: dict[bytes, bytes] = {}
        for sent in self.sent[tp]:
            assert sent.key is not None
            if sent.value is None:
                table.pop(sent.key, None)
            else:
                table[sent.key] = sent.value
        return table


class Producer(Transactions):
    """A transactional producer on the log above."""

    def __init__(self, log: Log, transactional_id: str) -> None:
        self.transactional_id = transactional_id
        self.log = log
        self.epoch = -1
        self.stopped = False

    async def start(self) -> None:
        await asyncio.sleep(0)
        self.log.owners[self.transactional_id] += 1
        self.epoch = self.log.owners[self.transactional_id]

    async def commit(self, sends: Iterable[tuple[str, int, RawBuilder]]) -> None:
        content = list(sends)
        await asyncio.sleep(0.001)
        assert not self.stopped, "a commit through a producer that was given up"
        if self.log.owners[self.transactional_id] != self.epoch:
            raise Fenced(f"{self.transactional_id}: another owner took over")
        fault = self.log.faults.pop(0) if self.log.faults else ""
        if fault == BEFORE:
            raise RequestTimedOutError()
        self.log.commit(content)
        await asyncio.sleep(0)
        if fault == AFTER:
            raise RequestTimedOutError()

    async def stop(self) -> None:
        self.stopped = True


class Owner:
    """A worker with one partition: what the engine around a partition does."""

    schema_digest = "digest"

    def __init__(self, log: Log, plan: Plan) -> None:
        self.log = log
        self.plan = plan
        self.space = Workspace(plan)
        self.held: set[TP] = set()
        self.tag = 0
        self.cursor = -1
        self.late: list[Fetched] = []  # on their way through Faust
        self.failed: BaseException | None = None
        self.recoveries = 0
        self.folds = 0
        self.partition = Partition(self, plan, 0)

    def deliver(self, most: int, late: bool = False) -> None:
        """What one fetch brings: whole batches from the cursor on; `late`: with the next one."""
        tp = self.partition.tp
        for fetched in self.late:
            self.partition.offer(fetched)
        self.late.clear()
        if self.cursor < 0 or tp in self.held:
            return
        waiting = [b for b in self.log.batches[tp] if b.next_offset > self.cursor]
        given = waiting[:most]
        end = self.log.ends[tp]
        self.cursor = given[-1].next_offset if len(given) < len(waiting) else end
        fetched = Fetched(self.tag, given, self.cursor, end)
        if late:
            self.late.append(fetched)
        else:
            self.partition.offer(fetched)

    async def inspect(self, tp: TP) -> Input:
        return Input(self.log.topic_id, self.log.low, self.log.ends[tp])

    async def recover(self, plan: Plan, partition: int, fold: Fold) -> Recovered:
        self.recoveries += 1
        rows = self.log.rows(TP(plan.state, partition))
        found = rows.pop(POSITION_KEY, None)
        position: Position | None = read_position(found, plan.state) if found else None
        if rows:
            none = np.zeros(len(rows), np.uint8)
            Loader(plan, partition, fold).load(list(rows), list(rows.values()), none)
        epochs = [
            codec.decode(sent.value or b"")[1]
            for sent in self.log.sent[TP(plan.epochs, partition)]
            if sent.key == epoch_key(plan, partition)
        ]
        await asyncio.sleep(0)
        return Recovered(position, epochs[-1] if epochs else None, len(rows), 0.0)

    def producer(self, transactional_id: str) -> Transactions:
        return Producer(self.log, transactional_id)

    async def work(self, plan: Plan, job: Callable[[Workspace], Outcome]) -> Outcome:
        self.folds += 1
        return await asyncio.get_running_loop().run_in_executor(None, job, self.space)

    async def read_from(self, tp: TP, offset: int) -> int:
        await asyncio.sleep(0)
        self.cursor = offset
        self.held.discard(tp)
        self.tag += 1
        return self.tag

    def hold(self, tp: TP) -> None:
        self.held.add(tp)

    def release(self, tp: TP) -> None:
        self.held.discard(tp)

    def defaults_of(self, plan: Plan) -> dict[str, str]:
        return defaults_of(plan.processor, SETTINGS)

    def fail(self, tp: TP, error: BaseException) -> None:
        self.failed = error
