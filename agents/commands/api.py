"""`soma api`: the HTTP API, and what belongs to it."""

import json
from typing import TYPE_CHECKING

import click

from agents.settings import load

if TYPE_CHECKING:
    from agents.settings import Settings
    from stores.journal import Journal

TTL_MAX_S = 30 * 86_400


@click.group(invoke_without_command=True)
@click.option("--host", help="Address to listen on. Overrides SOMA_API__HOST.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Overrides SOMA_API__PORT.")
@click.pass_context
def api(ctx: click.Context, host: str | None, port: int | None) -> None:
    """Run the HTTP API until SIGTERM or Ctrl-C.

    Events and memories come in, checked, and go to PostgreSQL's outbox; the relay brings them to
    Kafka. Callers show a JSON Web Token: set SOMA_API__JWT_SECRET (HS256), SOMA_API__JWKS_URL or
    SOMA_API__JWKS_FILE (RS256). For this machine alone SOMA_API__AUTH=off will do.

    The header Idempotency-Key makes a repetition safe. Headers given twice are refused.

    While PostgreSQL is away, events wait in a journal on the disk: SOMA_JOURNAL__FOLDER, or journal
    in SOMA_HOME. A second soma api on a machine needs its own SOMA_JOURNAL__FOLDER.

    \b
    Example:
      SOMA_API__AUTH=off soma api --port 8080
      curl localhost:8080/memories -H content-type:application/json -d '{"payload":{"text":"x"}}'
    """
    if ctx.invoked_subcommand is None:
        run(with_(load(), host, port))


def run(settings: "Settings") -> None:
    """Serve until a signal. ClickException says what is in the way."""
    from agents.api.app import guarded, make
    from agents.api.serving import log_to, serve
    from stores.postgres import check

    try:
        check(settings.postgres())
    except ValueError as error:
        raise click.ClickException(f"{error}.") from error
    log_to(settings.log_level)
    app = make(settings)
    app.state.resources.journal = _opened(settings)
    serve(guarded(app), settings.api.host, settings.api.port)


@api.command()
@click.option("--tenant", "tenants", multiple=True, required=True, help="Repeatable; * for all.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    required=True,
    type=click.Choice(["read", "write", "admin"]),
    help="Repeatable.",
)
@click.option("--ttl", type=click.IntRange(1, TTL_MAX_S), default=3600, show_default=True)
@click.option("--subject", default="soma-api-token", show_default=True, help="Who it is for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def token(
    tenants: tuple[str, ...], roles: tuple[str, ...], ttl: int, subject: str, as_json: bool
) -> None:
    """Print a token for trying things out. Needs SOMA_API__JWT_SECRET.

    \b
    Example:
      soma api token --tenant acme --role write --ttl 3600
    """
    import jwt

    from agents.api.tokens import caller_of, made

    text = made(load().api, list(tenants), list(roles), ttl, subject)
    try:
        caller_of(jwt.decode(text, options={"verify_signature": False}))
    except ValueError as error:
        raise click.ClickException(f"The API wouldn't take this token: {error}.") from error
    click.echo(json.dumps({"token": text, "ttl_s": ttl}) if as_json else text)


@api.command()
def openapi() -> None:
    """Print the contract: the OpenAPI document, as the API answers it at /openapi.json.

    \b
    Example:
      soma api openapi > openapi.json
    """
    from agents.api.app import make
    from agents.settings import ApiSettings

    settings = load()
    shown = settings.model_copy(update={"api": ApiSettings(auth="off")})
    click.echo(json.dumps(make(shown).openapi(), indent=2))


def _opened(settings: "Settings") -> "Journal | None":
    """The journal, unless it is off; taken here, so that what is in the way is said plainly."""
    from agents.api.journaled import open_journal
    from stores.journal import JournalError, JournalLockedError

    if settings.api.journal == "off":
        return None
    try:
        return open_journal(settings)
    except JournalLockedError as error:
        own = "A second soma api on this machine needs its own SOMA_JOURNAL__FOLDER"
        raise click.ClickException(f"{error}. {own}.") from error
    except (JournalError, OSError) as error:
        own = "SOMA_JOURNAL__FOLDER is a folder on a local disk"
        raise click.ClickException(f"{error}. {own}.") from error


def with_(settings: "Settings", host: str | None, port: int | None) -> "Settings":
    """The settings with what the command line says instead."""
    given = {"host": host, "port": port}
    changes = {name: value for name, value in given.items() if value is not None}
    return settings.model_copy(update={"api": settings.api.model_copy(update=changes)})
