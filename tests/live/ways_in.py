"""The ways in to memories, each asked the same: a verb and its arguments, as HTTP has them.

An answer is a status and a document, in which what differs by the asking tenant is named alike.
"""

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import httpx
from anyio.from_thread import BlockingPortal
from click.testing import CliRunner
from mcp import Client

from agents.cli import main
from agents.coordinates import memory_id
from agents.tools.api_access import sentence
from tests.live.agents.api.helpers import bearer

Given = Mapping[str, Any]
ANSWER_S = 240.0  # a process has to start, on a machine that may be busy
COORDINATES = ("a", "b", "c", "deploy", "incident")  # whose ids are named alike
UNLIKE = {"request_id", "event_id", "outbox_id"}  # each request's own
PROBLEM = {"type", "title", "status", "detail"}


class Said(NamedTuple):
    """What was answered. A way that tells no status of success says 0, as of the sentence of an
    error that is told without its document.
    """

    status: int
    document: Any
    text: str  # of an error


class Way(Protocol):
    """One way in, as one tenant."""

    tenant: str

    def ask(self, verb: str, given: Given) -> Said | None:
        """The answer; None: this way doesn't have the verb, or can't say that."""


def alike(tenant: str, document: Any) -> Any:
    """The document with the tenant and its ids by name, and without what no two answers share."""
    text = json.dumps(document)
    for coordinate in COORDINATES:
        text = text.replace(memory_id(tenant, coordinate), f"<id of {coordinate}>")
    return _without(json.loads(re.sub(rf"\b{tenant}\b", "<tenant>", text)))


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without(one)
            for name, one in value.items()
            if name not in UNLIKE and not (name == "id" and isinstance(one, int))  # of the outbox
        }
    return [_without(one) for one in value] if isinstance(value, list) else value


def said(tenant: str, status: int, document: Any) -> Said:
    """An answer that has its status and document."""
    text = sentence(document) if status >= 400 else ""
    return Said(status, alike(tenant, document), re.sub(rf"\b{tenant}\b", "<tenant>", text))


@dataclass
class ByHttp:
    """The contract itself."""

    base: str
    tenant: str

    def ask(self, verb: str, given: Given) -> Said | None:
        made = REQUESTS.get(verb)
        if made is None:
            return None
        method, path, more = made(dict(given))
        headers = bearer((self.tenant,)) | {"x-soma-tenant": self.tenant} | more.pop("headers", {})
        answer = httpx.request(method, self.base + path, headers=headers, timeout=30.0, **more)
        return said(self.tenant, answer.status_code, answer.json())


def _place(given: dict[str, Any]) -> str:
    return quote(given["coordinate"], safe="").replace(".", "%2E")  # .. is no step up


def _key(given: dict[str, Any]) -> dict[str, str]:
    return {"idempotency-key": given["dedupe_key"]} if "dedupe_key" in given else {}


REQUESTS: dict[str, Callable[[dict[str, Any]], tuple[str, str, dict[str, Any]]]] = {
    "remember": lambda one: ("POST", "/memories", {"json": one}),
    "recall": lambda one: ("POST", "/memories/search", {"json": one}),
    "forget": lambda one: ("DELETE", f"/memories/{_place(one)}", {"headers": _key(one)}),
    "get": lambda one: ("GET", f"/memories/{_place(one)}", {}),
    "link": lambda one: ("POST", "/graph/link", {"json": one}),
    "neighbours": lambda one: ("GET", "/graph/neighbors", {"params": one}),
    "path": lambda one: ("GET", "/graph/path", {"params": one}),
    "state": lambda one: ("GET", f"/state/{one['processor']}/{one['tenant']}", {}),
    "explain": lambda one: ("GET", f"/explain/{quote(one['id'], safe='')}", {}),
}


@dataclass
class ByTools:
    """MCP, by the SDK's own client."""

    portal: BlockingPortal
    client: Client
    tenant: str

    @classmethod
    def over(cls, portal: BlockingPortal, transport: Any, tenant: str) -> (
        "AbstractAsyncContextManager[Client]"
    ):  # fmt: skip
        """A client over a transport of the SDK's."""
        return Client(transport, read_timeout_seconds=ANSWER_S)

    def ask(self, verb: str, given: Given) -> Said | None:
        if verb not in ("remember", "recall", "forget", "state", "explain"):
            return None
        if given.get("tenant", self.tenant) != self.tenant:
            return None  # a tool is its tenant's
        arguments = {name: one for name, one in given.items() if name != "tenant"}
        answer = self.portal.call(self.client.call_tool, verb, arguments)
        document = answer.structured_content
        status = document["status"] if answer.is_error else 0
        found = said(self.tenant, status, document)
        if answer.is_error:
            (content,) = answer.content
            assert re.sub(rf"\b{self.tenant}\b", "<tenant>", content.text) == found.text
        return found


@dataclass
class ByCommand:
    """`soma memory`, as a user types it."""

    base: str
    tenant: str
    token: Path

    def ask(self, verb: str, given: Given) -> Said | None:
        words = self._words(verb, dict(given))
        if words is None:
            return None
        where = ["--url", self.base, "--token-file", str(self.token), "--json"]
        done = CliRunner().invoke(main, ["memory", *words, *where])
        if done.exit_code == 0:
            return Said(0, alike(self.tenant, json.loads(done.stdout)), "")
        text = done.stderr.removeprefix("Error: ").rstrip("\n")
        return Said(0, None, re.sub(rf"\b{self.tenant}\b", "<tenant>", text))

    def _words(self, verb: str, given: dict[str, Any]) -> list[str] | None:
        if verb == "remember" and isinstance(given.get("payload"), dict):
            known = {"coordinate": "--coordinate", "dedupe_key": "--dedupe-key"}
            payload = json.dumps(given.pop("payload"))
            return self._with("add", [payload], given, known)
        if verb == "recall" and given.get("text"):
            return self._with("search", [given.pop("text")], given, {"top_k": "--top-k"})
        if verb in ("get", "forget"):
            name = {"get": "get", "forget": "delete"}[verb]
            known = {"dedupe_key": "--dedupe-key"}
            return self._with(name, [given.pop("coordinate")], given, known)
        if verb == "link" and given.keys() <= {"from", "to", "kind"}:
            known = {"kind": "--kind"}
            return self._with("link", [given.pop("from"), given.pop("to")], given, known)
        return None

    def _with(
        self, name: str, words: list[str], given: dict[str, Any], known: dict[str, str]
    ) -> list[str] | None:
        if not given.keys() <= known.keys() or given.get("top_k", 1) not in range(1, 1001):
            return None
        if given.get("coordinate") == "":
            return None  # the command's word for one of its own
        options = [part for one, value in given.items() for part in (known[one], str(value))]
        return [name, self.tenant, *words, *options]
