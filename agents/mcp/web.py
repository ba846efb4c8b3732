"""The tools by streamable HTTP: who calls is asked first, by the API's own check of tokens.

The caller's token goes on to the API, which checks it again. Each request stands for itself: there
are no sessions that another could take over, or that could pile up.
"""

from typing import Any

from mcp.server.lowlevel import Server

from agents.api.callers import TENANT, Caller, payer
from agents.api.dependencies import TRACEPARENT
from agents.api.metrics import ApiMetrics
from agents.api.middleware import App, Around, Receive, Scope, Send
from agents.api.problems import Problem, answer
from agents.api.shares import Shares
from agents.api.tokens import Tokens
from agents.mcp.calling import Api
from agents.mcp.server import Tools, Who
from agents.settings import Settings
from agents.tools.api_access import ANSWER_S

PATH = "/mcp"
ENVELOPE_BYTES = 65_536  # of a message around a body as the API takes it


class Guarded:
    """The SDK's app for those who show a token."""

    def __init__(self, app: App, tokens: Tokens) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            if scope["path"] != PATH:
                raise Problem(404, "There is nothing at this path.")
            if scope["method"] != "POST":
                raise Problem(405, "This path doesn't take that method.", {"Allow": "POST"})
            scope["soma.caller"] = await self._tokens.caller(header(scope, b"authorization"))
            tenant = header(scope, b"x-soma-tenant")
            if tenant is not None and not TENANT.fullmatch(tenant):
                raise Problem(422, f"X-Soma-Tenant isn't a tenant's name ({TENANT.pattern}).")
        except Problem as error:
            id_ = str(scope.get("soma.request_id", ""))
            refused = answer(error.status_code, str(error.detail), id_, error.headers, error.more)
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)


def header(scope: Scope, name: bytes) -> str | None:
    """A header of a request."""
    found = next((value for one, value in scope["headers"] if one == name), None)
    return None if found is None else found.decode("latin-1")


def who(ctx: Any) -> Who:
    """Who calls a tool. The tenant: the header's; else the token's only one; else the API's rule
    decides.
    """
    scope = ctx.request.scope
    caller: Caller = scope["soma.caller"]
    tenant = header(scope, b"x-soma-tenant")
    if tenant is None and caller.tenants is not None and len(caller.tenants) == 1:
        tenant = next(iter(caller.tenants))
    told = {"X-Soma-Tenant": tenant, "Authorization": header(scope, b"authorization")}
    trace = header(scope, b"traceparent") or ""
    told["traceparent"] = trace if TRACEPARENT.fullmatch(trace) else None
    kept = {name: text for name, text in told.items() if text is not None}
    return Who(payer(caller, tenant), kept, tenant)


def app_of(settings: Settings, api: Api, version: str) -> App:
    """What a server runs. `SettingsError` where it can't tell who calls, or would be open."""
    own, limits = settings.mcp, settings.api
    tokens = Tokens(limits.model_copy(update={"host": own.host}))
    server: Server[Any] = Tools(api, who, Shares(own.calls)).server(version)
    app = server.streamable_http_app(
        streamable_http_path=PATH, json_response=True, stateless_http=True, host=own.host,
        max_request_body_size=limits.body_bytes_max + ENVELOPE_BYTES,
    )  # fmt: skip
    return Around(Guarded(app, tokens), ApiMetrics(), own.calls, ANSWER_S, limits.body_timeout_s)
