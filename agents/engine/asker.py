"""Asks a remote policy what a fold wants to know; the answers go into the partition as records.

Nothing here is kept: what isn't answered stands in the fold's state, so a new owner asks again, and
an answer that comes twice is ignored by the fold.
"""

import asyncio
import time
from collections.abc import Callable

from agents.engine import metrics
from agents.engine.builder import RawBuilder
from agents.engine.processor import Decision, Question, RemotePolicy
from agents.engine.records import frame_one
from topics import codec

OUTSTANDING_MAX = 64  # per partition; the rest is asked when these are answered


class Asker:
    """The questions of one partition, from its recovery until it is let go."""

    def __init__(
        self,
        processor: str,
        policy: RemotePolicy,
        wake: Callable[[], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`wake` is called for each answer, `ended` with each task."""
        self._processor = processor
        self._policy = policy
        self._wake = wake
        self._ended = ended
        self._asked: dict[str, asyncio.Task[None]] = {}  # kept until the fold doesn't ask any more
        self._answers: dict[str, tuple[Question, Decision]] = {}

    def want(self, questions: list[Question]) -> None:
        """Ask what is new, up to the limit; forget what the fold doesn't want to know any more."""
        wanted = {question.id for question in questions}
        for gone in self._asked.keys() - wanted:
            self._asked.pop(gone).cancel()
            self._answers.pop(gone, None)
        for question in questions:
            if len(self._asked) >= OUTSTANDING_MAX:
                return
            if question.id not in self._asked:
                task = asyncio.create_task(self._ask(question))
                task.add_done_callback(self._ended)
                self._asked[question.id] = task

    async def _ask(self, question: Question) -> None:
        began = time.monotonic()
        decision = await self._policy.ask(question)
        metrics.ANSWER_SECONDS.labels(self._processor).observe(time.monotonic() - began)
        metrics.ANSWERS.labels(self._processor, decision.outcome).inc()
        self._answers[question.id] = question, decision
        self._wake()

    def take(self) -> RawBuilder | None:
        """The answers so far as control records; they aren't given again."""
        if not self._answers:
            return None
        ts = time.time_ns() // 1000
        records = bytearray()
        for k, (question, decision) in enumerate(self._answers.values()):
            value = codec.encode(
                "control_answer",
                {
                    "tenant": question.tenant,
                    "id": question.id,
                    "outcome": decision.outcome,
                    "leader": decision.leader,
                    "rationale": decision.rationale,
                    "ts": ts,
                },
            )
            records += frame_one(k, question.tenant.encode(), value, [])
        builder = RawBuilder(bytes(records), len(self._answers))
        self._answers.clear()
        return builder

    def stop(self) -> None:
        """Ask no more."""
        for task in self._asked.values():
            task.cancel()
        self._asked.clear()
        self._answers.clear()
