"""Headers that can't go on to the API are answered, each by a problem document."""

import asyncio
import json
from typing import Any

import pytest

from agents.api.middleware import Message, Receive, Scope, Send
from agents.api.tokens import Tokens
from agents.mcp.calling import Answer, Api
from agents.mcp.tools import Call
from agents.mcp.web import PATH, Guarded
from agents.settings import ApiSettings

NOBODY = "http://127.0.0.1:1"  # nothing is sent there


@pytest.mark.parametrize("name", ["X-Soma-Tenant", "Authorization"])
def test_a_header_that_isnt_ascii_is_a_problem_of_the_request(name: str) -> None:
    async def asked() -> Answer:
        api = Api(NOBODY, 1, 1000)
        try:
            return await api.ask(Call("GET", "/state/memory/a"), {name: "acm\xe9"})
        finally:
            await api.close()

    answer = asyncio.run(asked())
    assert answer.status == 400 and "ASCII" in answer.said["detail"]


def through(tenant: bytes) -> tuple[list[Message], int]:
    """What is answered to a request for a tenant, and how many went on to the tools."""
    sent: list[Message] = []
    passed = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal passed
        passed += 1

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: dict[str, Any] = {
        "type": "http", "path": PATH, "method": "POST", "headers": [(b"x-soma-tenant", tenant)],
    }  # fmt: skip
    tokens = Tokens(ApiSettings(auth="off", host="127.0.0.1"))
    asyncio.run(Guarded(app, tokens)(scope, receive, send))
    return sent, passed


@pytest.mark.parametrize("tenant", ["acm\xe9".encode("latin-1"), b"", b"a b", b"*", b"x" * 129])
def test_a_tenant_that_has_no_tenants_name_isnt_taken_for_any(tenant: bytes) -> None:
    sent, passed = through(tenant)
    assert passed == 0 and sent[0]["status"] == 422
    assert "X-Soma-Tenant" in json.loads(sent[1]["body"])["detail"]


def test_a_tenants_name_goes_on() -> None:
    assert through(b"acme") == ([], 1)
