"""An Open Policy Agent server, asked by its data API: POST /v1/data/<path> with {"input": …}."""

import asyncio
import json
import logging
from typing import Any

import httpx

ANSWER_BYTES_MAX = 64 << 10
CONNECTIONS_MAX = 16


class NoAnswerError(Exception):
    """No usable answer; the text says why. It isn't asked again: the caller notes the failure."""


class Opa:
    """One server. Not for two event loops."""

    def __init__(self, url: str, timeout_s: float, token: str = "") -> None:
        # httpx notes each request at level info: a line a question would drown everything else.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._turn = asyncio.Semaphore(CONNECTIONS_MAX)
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            timeout=timeout_s,
            follow_redirects=False,
            trust_env=False,  # settings come from our own tree alone
        )

    async def ask(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        """The answer: {"result": …}, without it where the policy is undefined. NoAnswerError.

        The time limit holds from the moment that it is sent to the last byte of the answer.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._post(f"{self._url}/v1/data/{path}", {"input": document})
            except TimeoutError:
                raise NoAnswerError(f"no answer within {self._timeout_s:g} s") from None
            except httpx.TimeoutException:
                raise NoAnswerError(f"no answer within {self._timeout_s:g} s") from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise NoAnswerError(f"no answer: {type(error).__name__}") from error

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._client.stream("POST", url, json=body) as response:
            if response.status_code != 200:
                raise NoAnswerError(f"the server answers with status {response.status_code}")
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > ANSWER_BYTES_MAX:
                    raise NoAnswerError(f"the answer is larger than {ANSWER_BYTES_MAX >> 10} KiB")
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise NoAnswerError("the answer is not JSON") from error
        if not isinstance(answer, dict):
            raise NoAnswerError("the answer is no JSON object")
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
