"""Delivers lanes: one task per tenant with queued events, one call at a time, in order."""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from confluent_kafka import Message

from agents.gateway.call_slots import CallSlots
from agents.gateway.circuits import Circuits
from agents.gateway.events import Call, call_of
from agents.gateway.metrics import GatewayMetrics
from agents.gateway.partition import GatewayPartition
from agents.gateway.writer import GatewayWriter
from stores.memory_remote import Answer, MemoryRemote
from topics.codec import BadRecord

RETRY_FIRST_S = 0.1  # doubled with each failure in a row, with jitter
RETRY_LONGEST_S = 5.0
LIMITED_S = 1.0  # where the remote doesn't say how long

logger = logging.getLogger(__name__)


class Deliveries:
    """For one event loop; `failed` hears the error of a task, which is a defect."""

    def __init__(
        self,
        remote: MemoryRemote,
        circuits: Circuits,
        slots: CallSlots,
        writer: GatewayWriter,
        metrics: GatewayMetrics,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._remote = remote
        self._circuits = circuits
        self._slots = slots
        self._writer = writer
        self._metrics = metrics
        self._failed = failed
        self.closing = False  # begin nothing more

    def wake(self, part: GatewayPartition, tenant: str) -> None:
        """There is something in this lane."""
        if tenant in part.lanes or self.closing or not part.live:
            return
        task = asyncio.create_task(self._drain(part, tenant))
        part.lanes[tenant] = task
        task.add_done_callback(lambda done: self._ended(part, tenant, done))

    def _ended(self, part: GatewayPartition, tenant: str, task: asyncio.Task[None]) -> None:
        part.lanes.pop(tenant, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
        elif part.backlog.head(tenant) is not None:
            self.wake(part, tenant)  # queued while the task was ending

    async def _drain(self, part: GatewayPartition, tenant: str) -> None:
        while part.live and not self.closing and (head := part.backlog.head(tenant)) is not None:
            if not await self._deliver(part, tenant, head[1]):
                part.backlog.park(tenant)
                return
            part.backlog.done(tenant)

    async def _deliver(self, part: GatewayPartition, tenant: str, message: Message) -> bool:
        """Until there is a final answer; False if the circuit is open."""
        try:
            call = call_of(message, part.topic_id)
        except BadRecord as bad:
            await self._writer.letter(message, bad.reason, bad.detail)
            self._metrics.delivered.labels("unreadable").inc()
            return True
        while True:
            answer = await self._call(call)
            if answer is None:
                return False
            if answer.kind == "delivered":
                self._delivered(message)
                return True
            if answer.kind == "refused":
                reason = "conflict" if answer.status == 409 else "refused"
                await self._writer.letter(message, reason, f"{answer.status}: {answer.said}")
                self._metrics.delivered.labels("refused").inc()
                return True
            if not self._circuits.may(tenant):
                logger.info("%s: its circuit is open: %s", tenant, _why(answer))
                return False
            await asyncio.sleep(self._pause(tenant, answer))

    async def _call(self, call: Call) -> Answer | None:
        """One call and what its breaker learns of it; None: not admitted."""
        ticket = self._circuits.admit(call.tenant)
        if ticket is None:
            return None
        try:
            answer = await self._slots.run(
                lambda: self._remote.post(call.path, call.tenant, call.key, call.body),
                self._circuits.suspect(call.tenant),
            )
        except BaseException:
            self._circuits.dropped(ticket)
            raise
        self._metrics.calls.labels(answer.kind).inc()
        if answer.kind == "failed":
            self._circuits.failed(ticket)
        else:
            self._circuits.succeeded(ticket)  # a refusal or a limit is an answer too
        return answer

    def _delivered(self, message: Message) -> None:
        self._metrics.delivered.labels("delivered").inc()
        self._metrics.seconds.observe(max(0.0, time.time() - message.timestamp()[1] / 1000))

    def _pause(self, tenant: str, answer: Answer) -> float:
        """Seconds until the next try, with jitter: many tenants mustn't come back in step."""
        if answer.kind == "limited":
            return max(answer.retry_after_s, LIMITED_S) * random.uniform(1.0, 1.25)
        failures = max(1, self._circuits.failures(tenant))
        longest = min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 16))
        return max(longest * random.uniform(0.5, 1.0), answer.retry_after_s)


def _why(answer: Answer) -> str:
    return f"{answer.status} {answer.said}".strip() if answer.status else answer.said
