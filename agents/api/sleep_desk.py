"""What the routes of sleep do: the request written once, its answer awaited.

An idempotency key is in the request's id, so the log itself tells whether it was used: among the
last `sleep_log.KEPT` requests of the tenant's partition, for every process of the API.
"""

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from agents.api import sleep_log as log
from agents.api.buckets import Buckets
from agents.api.problems import Problem
from agents.api.sleep_answers import Answer, Answers, Requests
from agents.settings import Settings, SettingsError
from agents.sleep.law import BURST, PER_S

PART_OF_TIME = 0.7  # of a request's time: the answer is to be written, too
LOOKS = 4  # questions about the past that a process asks Kafka at a time
RETRY_S = {"Retry-After": "2"}
SAME = ("target", "kind", "ttl_seconds")  # in which a repetition is as the first
NO_PLACES: dict[str, tuple[int, int]] = {}
T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a request: `answer` and where it acts, if somebody waited for these."""

    request_id: str
    duplicate: bool
    answer: Answer | None = None
    places: dict[str, tuple[int, int]] = field(default_factory=dict)


class SleepDesk:
    """The requests of one process. `close` it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.buckets = Buckets(PER_S, BURST)
        self._requests, self._answers = Requests(settings), Answers(settings)
        self._threads = ThreadPoolExecutor(LOOKS, "sleep")
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def deadline(self) -> float:
        """When a request that begins now must be done; time.monotonic()."""
        return time.monotonic() + PART_OF_TIME * self._settings.api.timeout_s

    async def ask(self, record: dict[str, Any], key: str | None, until: float, wait: bool) -> Done:
        """Write a request, unless its key says that it was; `wait`: until it is answered.

        `Problem` 409 where the key was used for another, or the law refuses; 504 when it isn't
        answered in time; 503 when Kafka doesn't answer.
        """
        request_id = _id_of(record["tenant"], key)
        record = record | {"request_id": request_id}
        try:
            if not wait:
                return Done(request_id, await self._written(record, key) is not None)
            async with self._answers.to(request_id) as answer:
                said, duplicate = await self._answered(record, key, until, answer)
            return Done(request_id, duplicate, said, await self._places(record, said, until))
        except (log.AwayError, SettingsError) as error:
            logger.warning("Sleep: %s", error)
            away = (
                "Kafka doesn't answer, or has no topics of sleep: whether it is asked isn't sure."
            )
            raise Problem(503, away, RETRY_S) from None

    async def _written(self, record: dict[str, Any], key: str | None) -> int | None:
        """Write it; or, if it repeats one, that one's log time in ms."""
        if key is None:
            await self._requests.write(record)
            return None
        turn = self._turns.setdefault(record["request_id"], asyncio.Lock())
        async with turn:
            first, ms = await self._look(
                lambda: log.request_of(self._settings, record["tenant"], record["request_id"])
            )
            if not first:
                await self._requests.write(record)
                return None
        if any(first[name] != record[name] for name in SAME):
            used = "The idempotency key was used for another request; this one isn't written."
            raise Problem(409, used, conflicts=[{"at": "", "dedupe_key": key}])
        return ms

    async def _answered(
        self, record: dict[str, Any], key: str | None, until: float,
        answer: "asyncio.Future[Answer]",
    ) -> tuple[Answer, bool]:  # fmt: skip
        """The answer, and whether the request was there before."""
        request_id = record["request_id"]
        ms = await self._written(record, key)
        if ms is not None:
            past = await self._look(lambda: log.answer_to(self._settings, request_id, ms))
            if past is not None:
                return _must_be_done(record, past), True
        try:
            async with asyncio.timeout(until - time.monotonic()):
                said = await answer
        except TimeoutError:
            self._answers.missed()
            late = (
                "It is asked for, and wasn't answered in time: is there a worker that runs `sleep`?"
                " It is obeyed when one does."
            )
            raise Problem(504, late, sleep_request_id=request_id) from None
        return _must_be_done(record, said), ms is not None

    async def _places(
        self, record: dict[str, Any], said: Answer, until: float
    ) -> dict[str, tuple[int, int]]:
        """Where the state acts; without those that couldn't be found in time, or were before."""
        if said["outcome"] == "unchanged":
            return NO_PLACES
        tenant, version, ms = record["tenant"], said["version"], said["ts"] // 1000
        try:
            async with asyncio.timeout(until - time.monotonic()):
                return await self._look(lambda: log.acts_at(self._settings, tenant, version, ms))
        except (TimeoutError, log.AwayError) as error:
            logger.warning("Where a sleep acts isn't found: %s", error)
            return NO_PLACES

    async def _look(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Let Kafka go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._answers.close()


def _id_of(tenant: str, key: str | None) -> str:
    """A request's id: that of its key, or one of its own."""
    if key is None:
        return f"http-{secrets.token_hex(16)}"
    return f"http-{hashlib.sha256(f'{tenant} {key}'.encode()).hexdigest()[:32]}"


def _must_be_done(record: dict[str, Any], said: Answer) -> Answer:
    """The answer. `Problem` where the request is refused."""
    if said["outcome"] != "refused":
        return said
    why, more = str(said["why"]), {"sleep_request_id": record["request_id"]}
    if "state" in said:  # the law's own word
        raise Problem(409, f"It stays {said['state']}: {why}.", **more)
    if why.startswith("too_many"):
        raise Problem(429, f"Refused: {why}.", {"Retry-After": "1"}, **more)
    raise Problem(422, f"Refused: {why}.", **more)
