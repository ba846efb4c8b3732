"""The policy in front of what the HTTP API is asked to do: an OPA server's, asked at each request.

Input: {"method", "path", "tenant_id", "action", "target_state", "max_seconds"}. Result: `allow`
(boolean), and if wanted `rationale`. All else is no answer: it denies, unless SOMA_OPA_FAIL_OPEN.
"""

from typing import Any

from agents.policy import ACCESS
from agents.settings import Settings
from stores.opa import NoAnswerError, Opa

SHOWN = 300  # characters of a rationale


class DeniedError(Exception):
    """The policy says no; the text is its rationale."""


class Access:
    """Asks. For one event loop."""

    def __init__(self, client: Opa, fail_open: bool = False) -> None:
        self._client, self._fail_open = client, fail_open

    async def ask(self, document: dict[str, Any]) -> None:
        """Returns if it is allowed. DeniedError; NoAnswerError where that isn't known."""
        try:
            verdict((await self._client.ask(ACCESS, document)).get("result"))
        except NoAnswerError:
            if not self._fail_open:
                raise

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
    return Access(client, settings.opa_fail_open)
