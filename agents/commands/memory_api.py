"""The HTTP API as `soma memory` asks it: for one tenant, with a token of its own or a file's."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from agents.tools.api_access import ANSWER_S, FAILED, ApiAccess, sentence

PASSING = (408, 429, 502, 503, 504)
PAUSE_S = 0.5  # where the API doesn't say how long it is busy
GIVE_UP_S = 120.0


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """The options of who asks where."""
    url = click.option(
        "--url", default=None, help="The API's. [default: where SOMA_API__HOST and __PORT say]"
    )
    token = click.option(
        "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file with a token. [default: made with SOMA_API__JWT_SECRET, if that is set]",
    )  # fmt: skip
    return url(token(command))


class ApiError(Exception):
    """The API says no; the text is its own."""

    def __init__(self, status: int, why: str, after_s: int) -> None:
        super().__init__(why)
        self.status, self.after_s = status, after_s


class Api:
    """The HTTP API, for one tenant."""

    def __init__(self, tenant: str, url: str | None, token_file: Path | None) -> None:
        from agents.settings import load

        self._access = ApiAccess(load().api, tenant, url, token_file, "soma-memory")
        self._url = self._access.base

    def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> dict[str, Any]:
        """The answer. ClickException says what is wrong, by the API's own words."""
        import httpx

        try:
            return self._send(method, path, body, key)
        except httpx.HTTPError as error:
            raise click.ClickException(f"{self._url}: {error}") from error
        except ApiError as error:
            raise click.ClickException(str(error)) from error

    def insist(
        self, path: str, body: Sequence[Any], give_up_s: float = GIVE_UP_S
    ) -> dict[str, Any]:
        """The answer to what may be sent twice, as often as it takes while it fails in passing.

        ClickException after `give_up_s`, and at once for what doesn't pass.
        """
        import httpx

        until = time.monotonic() + give_up_s
        while True:
            try:
                return self._send("POST", path, body, None)
            except httpx.HTTPError as error:
                why, pause_s = f"{self._url}: {error or type(error).__name__}", PAUSE_S
            except ApiError as error:
                why, pause_s = str(error), max(PAUSE_S, error.after_s)
                if error.status not in PASSING:
                    raise click.ClickException(why) from error
            if time.monotonic() + pause_s > until:
                raise click.ClickException(f"not accepted within {give_up_s:g} s: {why}")
            time.sleep(pause_s)

    def _send(self, method: str, path: str, body: Any, key: str | None) -> dict[str, Any]:
        """The answer. `ApiError`; httpx.HTTPError where none came; ClickException."""
        import httpx

        headers = self._access.headers() | ({"Idempotency-Key": key} if key else {})
        try:
            answer = httpx.request(
                method, self._url + path, json=body, headers=headers, timeout=ANSWER_S,
                trust_env=False,
            )  # fmt: skip
            said: dict[str, Any] = answer.json()
        except httpx.InvalidURL as error:
            raise click.ClickException(f"{self._url}: {error}") from error
        except ValueError as error:
            raise click.ClickException(f"{self._url} answers no JSON: is it the API?") from error
        if answer.status_code >= FAILED:
            after = answer.headers.get("retry-after", "")
            wait_s = int(after) if after.isdecimal() else 0
            raise ApiError(answer.status_code, sentence(said), wait_s)
        return said
