"""The policy in front of what the HTTP API is asked to write: an OPA server's, asked each time.

Input: {"method", "path", "tenant_id", "action", "target_state", "max_seconds"}; the last two are
of a sleep, else null. Result: `allow` (boolean), and if wanted `rationale`. All else is no answer:
it denies, unless SOMA_OPA_FAIL_OPEN.
"""

import asyncio
from typing import Any

from agents.policy import ACCESS
from agents.settings import Settings
from stores.opa import NoAnswerError, Opa

SHOWN = 300  # characters of a rationale


class DeniedError(Exception):
    """The policy says no; the text is its rationale."""


class Access:
    """Asks. For one event loop."""

    def __init__(self, client: Opa, within_s: float, fail_open: bool = False) -> None:
        """`within_s`: for an answer, with the wait for others' questions before it."""
        self._client, self._within_s, self._fail_open = client, within_s, fail_open

    async def ask(self, document: dict[str, Any]) -> None:
        """Returns if it is allowed. DeniedError; NoAnswerError where that isn't known."""
        try:
            verdict((await self._answer(document)).get("result"))
        except NoAnswerError:
            if not self._fail_open:
                raise

    async def _answer(self, document: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._within_s):
                return await self._client.ask(ACCESS, document)
        except TimeoutError:
            raise NoAnswerError(f"no answer within {self._within_s:g} s") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def verdict(result: object) -> None:
    """Returns if a result document allows. DeniedError; NoAnswerError for nonsense."""
    said = result if isinstance(result, dict) else {}
    allow, rationale = said.get("allow"), said.get("rationale", "")
    if not isinstance(allow, bool) or not isinstance(rationale, str):
        raise NoAnswerError(f"{ACCESS} has no allow that is a boolean, or no text as rationale")
    if not allow:
        raise DeniedError(rationale[:SHOWN] or "it gives no reason")


def access_of(settings: Settings) -> Access | None:
    """The deployment's policy, where SOMA_OPA_URL is set."""
    if not settings.opa_url:
        return None
    client = Opa(settings.opa_url, settings.opa_timeout_s, settings.opa_token.get_secret_value())
    return Access(client, settings.opa_timeout_s, settings.opa_fail_open)
