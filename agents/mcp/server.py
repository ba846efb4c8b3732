"""The server of the tools, whatever it is reached by."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    ToolAnnotations,
)
from mcp_types import Tool as Listed
from pydantic import ValidationError

from agents.api.problems import invalid
from agents.api.shares import Shares
from agents.mcp.calling import Answer, Api, problem
from agents.mcp.tools import TOOLS, Tool
from agents.tools.api_access import sentence

NAME = "soma"
ABOUT = (
    "Memories that last, of one tenant: remember what will matter later, recall it by what it is "
    "like, forget what is wrong. Look with recall before you ask the user what you may have been "
    "told. explain and state show what the stream pipeline made of observations, and why."
)
BUSY = "Too many requests are under way."


@dataclass(frozen=True, slots=True)
class Who:
    """In whose name a tool is called: the headers of a request, and the tenant if it is known."""

    name: str  # that takes a share of the calls under way
    headers: dict[str, str]
    tenant: str | None


class Tools:
    """Lists the tools, and calls them for whom `who` says of a request's context."""

    def __init__(self, api: Api, who: Callable[[Any], Who], shares: Shares) -> None:
        self._api, self._who, self._shares = api, who, shares
        self._listed = [_listed(one) for one in TOOLS.values()]

    def server(self, version: str) -> Server[Any]:
        """The SDK's server of them."""
        return Server(
            NAME, version=version, title="Soma Stream", instructions=ABOUT,
            get_tool_input_schema=lambda name: TOOLS[name].input_schema()
            if name in TOOLS else None,
            on_list_tools=self._list, on_call_tool=self._call,
        )  # fmt: skip

    async def _list(self, ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=self._listed)

    async def _call(self, ctx: Any, params: CallToolRequestParams) -> CallToolResult:
        tool = TOOLS.get(params.name)
        if tool is None:
            names = ", ".join(TOOLS)
            raise MCPError(INVALID_PARAMS, f"There is no tool {params.name[:60]!r}; give {names}.")
        who = self._who(ctx)
        if not self._shares.enter(who.name):
            return result(problem(503, BUSY))
        try:
            return result(await self._asked(tool, params.arguments or {}, who))
        finally:
            self._shares.leave(who.name)

    async def _asked(self, tool: Tool, arguments: dict[str, Any], who: Who) -> Answer:
        try:
            call = tool.call(arguments, who.tenant)
        except ValidationError as error:
            wrong = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
            found = invalid(wrong)
            return problem(found.status_code, str(found.detail), **found.more)
        return await self._api.ask(call, who.headers)


def result(answer: Answer) -> CallToolResult:
    """What a tool gives: a typed document; or a sentence, and the problem document."""
    text = sentence(answer.said) if answer.failed else json.dumps(answer.said, ensure_ascii=False)
    return CallToolResult(
        content=[TextContent(text=text)], structured_content=answer.said, is_error=answer.failed
    )


def _listed(one: Tool) -> Listed:
    hints = ToolAnnotations(
        read_only_hint=not one.writes, destructive_hint=one.destroys, open_world_hint=False
    )
    return Listed(
        name=one.name, title=one.title, description=one.about, annotations=hints,
        input_schema=one.input_schema(), output_schema=one.output_schema(),
    )  # fmt: skip
