"""Who has a partition now, as the workers' group says, and what that worker knows of a tenant.

Workers say in the group's metadata where their pages are, as Kafka Streams' `application.server`
does. So nothing is kept here that could be old but for an instant; a worker that isn't the owner
any more says so, and the group is asked once more.
"""

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

import httpx
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

import topics.connection  # noqa: F401 (its hooks)
from agents.api.problems import Problem
from agents.engine.dealing import Member, member_of
from agents.engine.security import security
from agents.settings import Settings
from topics.partition import partition_of

STABLE = "Stable"  # a group whose members have been told what is theirs
FRESH_S = 2.0  # that the group's word counts
KAFKA_S, WORKER_S = 2.0, 2.5  # for an answer: two of each within a request's time
PATH = "/state"  # of the workers' page
AGAIN_S = 0.5  # before the second attempt
RETRY = {"Retry-After": "2"}
BYTES_MAX = 8 << 20  # of a worker's answer
OK, TOO_LARGE = 200, 413

logger = logging.getLogger(__name__)


class NobodyError(Exception):
    """Nobody answers for a partition now; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Group:
    """The workers as they were described, and how many partitions each topic that they read has."""

    members: list[Member]
    partitions: dict[str, int]
    at: float  # time.monotonic()

    def owner(self, processor: str, tenant: str) -> str:
        """The URL of the worker that has the tenant's partition. NobodyError."""
        dealt = [(topic, by) for one in self.members for topic, by in one.dealt.items()]
        topics = {topic for topic, by in dealt if processor in by}
        if not topics:
            raise NobodyError(f"no worker runs {processor} now")
        (topic, *_) = sorted(topics)
        number = partition_of(tenant, self.partitions[topic])
        for one in self.members:
            if number in one.dealt.get(topic, {}).get(processor, ()):
                if not one.url:
                    raise NobodyError(f"the worker that has {topic}/{number} has no web pages")
                return one.url
        raise NobodyError(f"no worker has partition {number} of {topic} now")


class Owners:
    """Asks the group and the workers."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._group: Group | None = None
        self._asking = asyncio.Lock()

    async def state(self, processor: str, tenant: str) -> dict[str, Any]:
        """What the owner says, as `soma state show --json` has it. `Problem` 503: nobody does."""
        try:
            return await self._once(processor, tenant, FRESH_S)
        except NobodyError as error:
            logger.info("%s of %s: %s; the group is asked again", processor, tenant, error)
        await asyncio.sleep(AGAIN_S)
        try:
            return await self._once(processor, tenant, 0.0)
        except NobodyError as error:
            raise Problem(503, f"Its owner doesn't answer now: {error}.", RETRY) from None

    async def _once(self, processor: str, tenant: str, fresh_s: float) -> dict[str, Any]:
        url = (await self._described(fresh_s)).owner(processor, tenant)
        token = self._settings.state_token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with (
                asyncio.timeout(WORKER_S),
                httpx.AsyncClient(timeout=WORKER_S, trust_env=False) as client,
                client.stream("GET", f"{url}{PATH}/{processor}/{tenant}", headers=headers) as got,
            ):
                return await _read(url, got)
        except (httpx.HTTPError, OSError) as error:  # the time's end too
            why = "no answer in time" if isinstance(error, TimeoutError) else error
            raise NobodyError(f"the worker at {url}: {why!s}") from error

    async def _described(self, fresh_s: float) -> Group:
        """The group, described no longer ago than that. NobodyError."""
        async with self._asking:
            known = self._group
            if known is None or time.monotonic() - known.at > fresh_s:
                try:
                    async with asyncio.timeout(KAFKA_S):
                        known = self._group = await self._describe()
                except (KafkaError, OSError, ValueError) as error:
                    why = "no answer in time" if isinstance(error, TimeoutError) else error
                    raise NobodyError(f"Kafka says nothing of the workers' group: {why}") from error
            return known

    async def _describe(self) -> Group:
        own, at = self._settings, time.monotonic()
        admin = AIOKafkaAdminClient(
            bootstrap_servers=own.bootstrap(), client_id=own.prefix("soma-api"),
            request_timeout_ms=int(KAFKA_S * 1000), **security(own),
        )  # fmt: skip
        try:
            await admin.start()
            (answer,) = await admin.describe_consumer_groups([own.prefix("soma")])
            (group,) = answer.groups
            error_code, _, state, _, _, members, *_ = group
            if error_code or state != STABLE:
                raise NobodyError(f"the workers' group is {state or error_code}")
            found = [member_of(one[-2], one[-1]) for one in members]
            topics = sorted({topic for one in found for topic in one.dealt})
            described = await admin.describe_topics(topics) if topics else []
        finally:
            await admin.close()
        return Group(found, {one["topic"]: len(one["partitions"]) for one in described}, at)


async def _read(url: str, answer: httpx.Response) -> dict[str, Any]:
    """A worker's answer. NobodyError; `Problem` 413 where it is too large for one."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > BYTES_MAX:
            raise NobodyError(f"the worker at {url} says more than {BYTES_MAX >> 20} MiB")
    try:
        said: dict[str, Any] = json.loads(bytes(body))
    except ValueError:
        status = answer.status_code
        raise NobodyError(f"the worker at {url} answers {status}, and no JSON") from None
    if answer.status_code == OK:
        return said
    why = f"the worker at {url}: {said.get('why', answer.status_code)}"
    if answer.status_code == TOO_LARGE:
        raise Problem(422, f"{said.get('why')}: `soma state show` reads them from the topics.")
    raise NobodyError(why)
