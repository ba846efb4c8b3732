"""Puts rows made anew in the live ones' place, in one transaction of the partition's own id.

Taking that id fences the partition's owner at its last commit. From then on nobody commits there
but this job (or an owner that comes meanwhile, and fences the job): the state topic is read to its
end, the fold goes on to exactly that position, and the rows that differ, the position and the word
of it are committed together, or none of them. The owner hears in the epochs log when to go on.
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from aiokafka.errors import KafkaError

from agents.engine.builder import RawBuilder
from agents.engine.errors import Stopped
from agents.engine.plan import Plan
from agents.engine.producer import Transactions
from agents.engine.rebuilds import BEGINS, DONE, ENDED, Rebuild, rebuilds_since
from agents.engine.records import frame_one
from agents.engine.security import security
from agents.engine.work import POSITION_KEY
from agents.history.beside import Beside, Compared
from agents.history.errors import HistoryError
from agents.replay.agent import AUDIT
from agents.replay.jobs import now_us, record_batches
from agents.settings import Settings
from topics import codec
from topics.broker import connect, look
from topics.connection import heard
from topics.partition import partition_of

AUDIT_SCHEMA, ACTION = "audit_event", "replay.rebuild"
HOLD_S = 15.0  # for the owner to wait, beside what its rows take
HOLD_ROWS_PER_S = 20_000
CLOCKS_US = 3_600_000_000  # an hour: clocks differ; jobs are remembered for weeks
COMMIT_S = 50.0  # the broker ends a transaction that takes a minute
SETTLE_S = 5.0  # for a commit that is under way when the job is to end
WITHDRAW_S = 5.0  # to say that a job ended: else the owner waits until its time is over
LOOK_S = 0.05

log = logging.getLogger(__name__)

Sends = list[tuple[str, int, RawBuilder]]


class Switch:
    """Of one partition, for one job."""

    def __init__(
        self, settings: Settings, plan: Plan, partition: int, job: str, said: Mapping[str, Any]
    ) -> None:  # fmt: skip
        """`said`: of the job's plan, who accepted it and when."""
        self._settings, self._plan, self._partition = settings, plan, partition
        self._job, self._actor = job, str(said["actor"])
        self._accepted = int(said["accepted"])
        self._transactions: Transactions | None = None
        self._begins: Rebuild | None = None  # what was announced last
        self._done = False  # the rows are the live ones

    def was_it(self, word: Rebuild) -> bool:
        """Whether this very job has put its rows in place: ids come again, long after."""
        mine = word.job == self._job and word.state == DONE
        return mine and word.ts > self._accepted - CLOCKS_US

    def announcement(self, beside: Beside, attempt: int) -> Sends:
        """What is to be committed before the owner is fenced."""
        rows = max(len(beside.stored.rows), len(beside.changes))
        hold_s = (HOLD_S + rows / HOLD_ROWS_PER_S) * 2**attempt
        name, topic_id = self._plan.processor.name, beside.past.source.topic_id
        self._begins = Rebuild(
            name, self._partition, topic_id, self._job, self._actor, BEGINS, hold_s=hold_s,
            ts=now_us(),
        )  # fmt: skip
        return [_one(self._plan.epochs, self._partition, *self._begins.record())]

    def announced(self) -> None:
        """Wait until everybody can read the announcement: what is committed is, a little later.

        In a thread. TimeoutError, KafkaException, UnknownVersion.
        """
        at, until = 0, time.monotonic() + self._settings.answer_timeout_s
        while time.monotonic() < until:
            found, at = rebuilds_since(self._settings, self._plan, self._partition, at)
            if self._begins in found:
                return
            time.sleep(LOOK_S)
        where = f"{self._plan.epochs}/{self._partition}"
        raise TimeoutError(f"what {self._job} announced in {where} can't be read")

    async def withdraw(self) -> None:
        """Say that the job ended without rows, so that the partition's owner needn't wait for it.

        Under an id of its own: the partition's may be the owner's again.
        """
        if self._begins is None or self._done:
            return
        word = replace(self._begins, state=ENDED, hold_s=0.0, ts=0)
        own = self._settings
        name = f"replay-word-{self._plan.processor.name}-{self._partition}"
        transactions = self._made(own.prefix(name), WITHDRAW_S)
        try:
            async with asyncio.timeout(WITHDRAW_S):
                await transactions.start()
                await transactions.commit(
                    [_one(self._plan.epochs, self._partition, *word.record())]
                )
        except (KafkaError, Stopped, TimeoutError, OSError) as error:
            log.warning(
                "%s can't say that it ended: the owner of %s/%d waits until %.0f s are over: %r",
                self._job, self._plan.source, self._partition, self._begins.hold_s, error,
            )  # fmt: skip
        finally:
            await transactions.stop()

    def _made(self, name: str, commit_s: float) -> Transactions:
        own = self._settings
        return Transactions(own.bootstrap(), name, security(own), own.answer_timeout_s, commit_s)

    async def fence(self) -> None:
        """Take the partition's id: its owner commits no more. Fenced, Refused, KafkaError."""
        name = f"{self._plan.transactional_id}-{self._partition}"
        self._transactions = self._made(name, COMMIT_S)
        await self._transactions.start()

    def sends(self, beside: Beside, found: Compared) -> tuple[Rebuild, Sends]:
        """The word of it, and all of the transaction. HistoryError, BrokerError, KafkaException."""
        plan, at = self._plan, beside.new_position()
        lost = str(beside.past.lost) if beside.past.lost is not None else ""
        word = Rebuild(
            plan.processor.name, self._partition, at.topic_id, self._job, self._actor, DONE,
            at.next_offset, len(beside.changes), found.live.hex, found.anew.hex, lost,
        )  # fmt: skip
        rows = [*beside.changes, (POSITION_KEY, at.encode())]
        return word, [
            *((plan.state, self._partition, one) for one in record_batches(rows)),
            _one(plan.epochs, self._partition, *word.record()),
            self._audit(word, beside.said),
        ]

    def _audit(self, word: Rebuild, said: int | None) -> tuple[str, int, RawBuilder]:
        topic = self._settings.topic(AUDIT)
        found = look(connect(self._settings.librdkafka()), [topic])
        if topic not in found:
            raise HistoryError(f"there is no topic {topic}: `soma topics apply` makes it")
        subject = f"{word.processor}/{word.partition}"
        detail = {
            "job": word.job, "next_offset": word.next_offset, "rows": word.rows,
            "digest_before": word.digest_before, "digest_after": word.digest_after,
            "lost": word.lost,
        }  # fmt: skip
        if said is not None:  # by the actor: nothing else told
            detail["folded_to"] = said
        value = codec.encode(AUDIT_SCHEMA, {
            "ts": now_us(), "actor": word.actor, "action": ACTION, "subject": subject,
            "detail": json.dumps(detail),
        })  # fmt: skip
        home = partition_of(subject, found[topic].partitions)
        return _one(topic, home, subject.encode(), value)

    async def commit(self, sends: Iterable[tuple[str, int, RawBuilder]]) -> None:
        """The rows are the live ones. Fenced: another owner came; Refused; KafkaError.

        Where it is to end meanwhile, it waits a little, so that one knows how it is.
        """
        assert self._transactions is not None
        committing = asyncio.ensure_future(self._transactions.commit(sends))
        committing.add_done_callback(heard)
        try:
            await asyncio.shield(committing)
        finally:
            ended, _ = await asyncio.wait({committing}, timeout=SETTLE_S)
            self._done = bool(ended) and committing.exception() is None
            committing.cancel()

    async def close(self) -> None:
        """Let the id go: the owner takes it again."""
        transactions, self._transactions = self._transactions, None
        if transactions is not None:
            await transactions.stop()


def _one(topic: str, partition: int, key: bytes, value: bytes) -> tuple[str, int, RawBuilder]:
    return topic, partition, RawBuilder(frame_one(0, key, value, []), 1)
