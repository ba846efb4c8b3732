"""Requests of the HTTP API, whose answers are documents: what was asked for, or a problem."""

import json
import uuid
from typing import Any, NamedTuple

import httpx

from agents.api.bodies import MORE
from agents.api.problems import document
from agents.mcp.tools import Call
from agents.tools.api_access import ANSWER_S, FAILED

ANSWER_BYTES_MAX = 16 << 20


class Answer(NamedTuple):
    """A status, and the document."""

    status: int
    said: dict[str, Any]

    @property
    def failed(self) -> bool:
        """Whether it is a problem."""
        return self.status >= FAILED


class Api:
    """The HTTP API at a URL. `close` it."""

    def __init__(self, base: str, most: int, body_bytes_max: int) -> None:
        """`most`: requests at a time."""
        self.base, self._body_bytes_max = base, body_bytes_max
        limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
        self._http = httpx.AsyncClient(
            base_url=base, timeout=ANSWER_S, limits=limits, trust_env=False
        )

    async def close(self) -> None:
        """Let its connections go."""
        await self._http.aclose()

    async def ask(self, call: Call, headers: dict[str, str]) -> Answer:
        """Its answer; a problem of ours where it has none."""
        told = headers | call.headers
        body = None
        if call.body is not None:
            # As it came, numbers that are none too: what of it is taken is the API's to say.
            body = json.dumps(call.body, ensure_ascii=False).encode(errors="surrogatepass")
            if len(body) > self._body_bytes_max:
                # The API would close the connection, and its answer may be lost with that.
                return problem(413, MORE.format(self._body_bytes_max))
            told["Content-Type"] = "application/json"
        try:
            request = self._http.build_request(
                call.method, call.path, content=body, params=call.query or None, headers=told
            )
            answer = await self._http.send(request, stream=True)
            try:
                text = await _read(answer)
            finally:
                await answer.aclose()
            if text is None:
                return problem(503, f"The API says more than {ANSWER_BYTES_MAX >> 20} MiB.")
            said = json.loads(text)
        except UnicodeEncodeError:
            return problem(400, "A header has characters that aren't ASCII.")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            why = str(error) or type(error).__name__
            return problem(503, f"The API at {self.base} doesn't answer: {why}")
        except ValueError:
            return problem(503, f"{self.base} answers no JSON: is it the API?")
        return Answer(answer.status_code, said)


def problem(status: int, detail: str, **more: Any) -> Answer:
    """A problem that the API hasn't told, in its form."""
    return Answer(status, document(status, detail, uuid.uuid4().hex, more))


async def _read(answer: httpx.Response) -> bytes | None:
    """An answer's body; None: it is longer than is taken."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > ANSWER_BYTES_MAX:
            return None
    return bytes(body)
