"""A remote memory service: POST {endpoint}/…, one event a call, and GET {endpoint}/healthz.

The service keeps an event once per tenant and idempotency key, so a call may be made again whenever
its answer is unknown. Which answers mean what:

| answer | means |
|---|---|
| 2xx | the service has the event |
| 400, 409, 413, 414, 422, 431 | it will never take this event |
| 429 | not now: the tenant's limit, for the seconds of Retry-After |
| anything else, or none in time | a failure, to be tried again |

A failure is a 5xx, but also 401, 403, 404 or 3xx: somebody has to mend these, and as refusals they
would empty the journal into the dead letters.
"""

import math
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Literal

import aiohttp

Kind = Literal["delivered", "refused", "limited", "failed"]
REFUSALS = frozenset({400, 409, 413, 414, 422, 431})
LIMITED = 429
SAID_MAX = 400  # characters of an answer that are kept
ANSWER_BYTES_MAX = 16 << 10  # read of an answer; a longer one costs the connection
RETRY_AFTER_S_MAX = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call; `said` is for people, without any secret of ours."""

    kind: Kind
    status: int  # 0: none
    said: str = ""
    retry_after_s: float = 0.0


class MemoryRemote:
    """One service. Make and use it inside one event loop."""

    def __init__(self, endpoint: str, timeout_s: float, connections: int, token: str = "") -> None:
        self._endpoint = endpoint.rstrip("/")
        self._timeout_s = timeout_s
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            connector=aiohttp.TCPConnector(limit=connections + 1),  # and one to ask for its health
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            auto_decompress=False,
            trust_env=False,  # settings come from our own tree alone
        )

    async def post(self, path: str, tenant: str, key: str, body: bytes) -> Answer:
        """Deliver one event (a JSON object); never raises for what the service does."""
        headers = {
            "X-Soma-Tenant": tenant,
            "X-Idempotency-Key": key,
            "Content-Type": "application/json",
        }
        return await self._ask("POST", path, headers, body)

    async def health(self) -> bool:
        """Whether the service is there at all: any answer of its /healthz but a 5xx."""
        return 0 < (await self._ask("GET", "/healthz", {}, None)).status < 500

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None
    ) -> Answer:
        try:
            async with self._session.request(
                method, self._endpoint + path, headers=headers, data=body, allow_redirects=False
            ) as response:
                said = await response.content.read(ANSWER_BYTES_MAX)
                given = response.headers
                after = retry_after_s(given.get("Retry-After"), given.get("Date"))
                return answer_of(response.status, said, after)
        except TimeoutError:
            return Answer("failed", 0, f"no answer within {self._timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer("failed", 0, f"no answer: {type(error).__name__}")


def answer_of(status: int, said: bytes, after_s: float) -> Answer:
    """The answer that a status means."""
    words = said[: 4 * SAID_MAX].decode("utf-8", "replace")[:SAID_MAX]
    if 200 <= status < 300:
        return Answer("delivered", status)
    if status in REFUSALS:
        return Answer("refused", status, words)
    return Answer("limited" if status == LIMITED else "failed", status, words, after_s)


def retry_after_s(text: str | None, date: str | None = None) -> float:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3), 0 where it says nothing, at most 300.

    A date counts from `date`, the answer's own, so that clocks needn't agree.
    """
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            since = parsedate_to_datetime(date or "")
            seconds = (parsedate_to_datetime(text) - since).total_seconds()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_S_MAX) if math.isfinite(seconds) else 0.0
