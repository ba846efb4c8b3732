"""The HTTP API in this process: httpx over ASGI, in a loop of its own, asked from any thread."""

from functools import partial
from typing import Any, Self

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from agents.api.app import guarded, make
from agents.settings import Settings


class Client:
    """A synchronous client of an app that has its lifespan; `close` ends it."""

    def __init__(self, settings: Settings) -> None:
        self.app = make(settings)
        self._portals = start_blocking_portal()
        self.portal: BlockingPortal = self._portals.__enter__()
        self._life = self.portal.wrap_async_context_manager(
            self.app.router.lifespan_context(self.app)
        )
        self._life.__enter__()
        transport = httpx.ASGITransport(guarded(self.app), raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://api", timeout=60.0)

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.portal.call(partial(self.http.request, method, path, **given))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.request("GET", path, **given)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.request("POST", path, **given)

    def close(self) -> None:
        self.portal.call(self.http.aclose)
        self._life.__exit__(None, None, None)
        self._portals.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
