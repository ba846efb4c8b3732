"""`soma mcp`: memories as tools of the Model Context Protocol."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agents.settings import load

if TYPE_CHECKING:
    from agents.settings import Settings

SUBJECT = "soma-mcp"


@click.command()
@click.option("--tenant", help="Whose memories, over standard input. [default: default]")
@click.option("--url", help="The API's. [default: where SOMA_API__HOST and __PORT say]")
@click.option(
    "--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a token, over standard input. "
    "[default: made with SOMA_API__JWT_SECRET, if that is set]",
)  # fmt: skip
@click.option("--http", is_flag=True, help="Listen for streamable HTTP at /mcp.")
@click.option("--host", help="Address to listen on. Overrides SOMA_MCP__HOST.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Overrides SOMA_MCP__PORT.")
def mcp(
    tenant: str | None, url: str | None, token_file: Path | None, http: bool, host: str | None,
    port: int | None,
) -> None:  # fmt: skip
    """Let agents remember, recall, forget, explain and see states, by tools of MCP.

    A client of the HTTP API, which has the rules: `soma api` or, for recall, `soma recall` must
    run. An agent's program starts it and speaks with it over standard input and output. With
    --http it serves many: each request shows a token of its own, as to the API, and its tenant is
    X-Soma-Tenant, or the token's only one.

    \b
    Examples:
      soma mcp --tenant acme
      soma mcp --http --port 8090
    """
    settings = load()
    if http:
        if tenant is not None or token_file is not None:
            raise click.ClickException("With --http each request says its tenant and token.")
        _serve_http(settings, url, host, port)
    else:
        if host is not None or port is not None:
            raise click.ClickException("--host and --port are for --http.")
        _serve_pipes(settings, tenant or "default", url, token_file)


def _serve_http(settings: "Settings", url: str | None, host: str | None, port: int | None) -> None:
    from agents.api.serving import log_to, serve
    from agents.mcp.calling import Api
    from agents.mcp.web import app_of
    from agents.tools.api_access import base_of
    from agents.tools.version import version

    given = {"host": host, "port": port}
    changes = {name: value for name, value in given.items() if value is not None}
    own = settings.mcp.model_copy(update=changes)
    settings = settings.model_copy(update={"mcp": own})
    log_to(settings.log_level)
    api = Api(base_of(settings.api, url), own.calls, settings.api.body_bytes_max)
    app = app_of(settings, api, version())
    serve(app, own.host, own.port)


def _serve_pipes(
    settings: "Settings", tenant: str, url: str | None, token_file: Path | None
) -> None:
    from agents.api.serving import log_to
    from agents.api.shares import PARTS, Shares
    from agents.mcp.calling import Api
    from agents.mcp.lines import Pipes, streams
    from agents.mcp.server import Tools, Who
    from agents.mcp.web import ENVELOPE_BYTES
    from agents.tools.api_access import ApiAccess
    from agents.tools.version import version

    access = ApiAccess(settings.api, tenant, url, token_file, SUBJECT)
    log_to(settings.log_level)
    calls = settings.mcp.calls

    async def run() -> None:
        api = Api(access.base, calls, settings.api.body_bytes_max)
        shares = Shares(calls * PARTS)  # all are one tenant's here
        tools = Tools(api, lambda _: Who(tenant, access.headers(), tenant), shares)
        server = tools.server(version())
        try:
            most = settings.api.body_bytes_max + ENVELOPE_BYTES
            async with streams(Pipes(), most) as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            await api.close()

    asyncio.run(run())
