"""`soma memory`: remember, find, link and forget, by the HTTP API."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from agents.commands.memory_api import Api, asking
from agents.commands.memory_file import export, import_, list_
from agents.tools.api_access import segment
from agents.tools.output import plain

SHOWN = 100  # characters of a payload on a line

_json = click.option("--json", "as_json", is_flag=True, help="Print the API's answer as JSON.")
_namespace = click.option("--namespace", default="", help="The part of the memory.")
_key = click.option("--dedupe-key", default=None, help="Makes a repetition safe.")
_type = click.option("--type", "memory_type", type=click.Choice(["episodic", "semantic"]))


@click.group()
def memory() -> None:
    """Remember, find, link and forget what a tenant's agents know.

    By the HTTP API: `soma api` writes, and `soma recall` writes and finds. What is written is found
    a moment later, when the processor `memory` has judged it.
    """


memory.add_command(list_)
memory.add_command(export)
memory.add_command(import_)


@memory.command()
@click.argument("tenant")
@click.argument("payload")
@click.option("--coordinate", help="Where it lies. [default: a place of its own]")
@_namespace
@_type
@click.option("--importance", type=float, help="Of any scale; it counts among the tenant's.")
@_key
@asking
@_json
def add(
    tenant: str, payload: str, url: str | None, token_file: Path | None, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Remember PAYLOAD: a JSON object, a text, or - for what standard input says.

    \b
    Examples:
      soma memory add acme 'Alice prefers short answers' --coordinate alice/style
      soma memory add acme '{"text": "deploy failed", "service": "api"}' --importance 3
    """
    text = sys.stdin.read() if payload == "-" else payload
    body = {name: value for name, value in given.items() if value not in (None, "")}
    body["payload"] = _payload(text)
    said = Api(tenant, url, token_file).ask("POST", "/memories", body)
    _tell(said, as_json, f"{said['coordinate']} ({said['id']}): accepted")


@memory.command()
@click.argument("tenant")
@click.argument("coordinate")
@asking
@_json
def get(
    tenant: str, coordinate: str, url: str | None, token_file: Path | None, as_json: bool
) -> None:
    """Show the memory at COORDINATE.

    \b
    Example:
      soma memory get acme alice/style
    """
    said = Api(tenant, url, token_file).ask("GET", f"/memories/{segment(coordinate)}")
    line = f"version {said['version']} of {said['updated']}: {_short(said['payload'])}"
    _tell(said, as_json, line)


@memory.command()
@click.argument("tenant")
@click.argument("text")
@click.option(
    "--mode",
    type=click.Choice(["vector", "keywords", "hybrid"]),
    default="vector",
    show_default=True,
    help="By likeness, by words (PostgreSQL's full text), or by both, fused.",
)
@click.option("--top-k", type=click.IntRange(1, 1000), default=10, show_default=True)
@_namespace
@_type
@click.option(
    "--where", "fields", multiple=True, metavar="FIELD=JSON",
    help="A field of the payload must equal this; repeatable.",
)  # fmt: skip
@asking
@_json
def search(
    tenant: str, text: str, url: str | None, token_file: Path | None, as_json: bool,
    fields: tuple[str, ...], **given: Any,
) -> None:  # fmt: skip
    """Find what is like TEXT, best first; or what has its words.

    \b
    Examples:
      soma memory search acme 'how does alice like her answers?'
      soma memory search acme 'failed deploys' --where service='"api"' --json
      soma memory search acme 'ERR_4711 checkout' --mode hybrid
    """
    namespace = given.pop("namespace")
    filters: dict[str, Any] = {"payload": dict(map(_field, fields))}
    if namespace:
        filters["namespace"] = namespace
    body = {"text": text, "filters": filters, **given}
    said = Api(tenant, url, token_file).ask("POST", "/memories/search", body)
    lines = [
        f"{one['score']:.4f}  {plain(one['coordinate'])}  {_short(one['payload'])}"
        for one in said["results"]
    ]
    _tell(said, as_json, "\n".join(lines) or "Nothing is like it.")


@memory.command()
@click.argument("tenant")
@click.argument("coordinate")
@_namespace
@_key
@asking
@_json
def delete(
    tenant: str, coordinate: str, namespace: str, dedupe_key: str | None, url: str | None,
    token_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Forget the memory at COORDINATE.

    \b
    Example:
      soma memory delete acme alice/style
    """
    path = f"/memories/{segment(coordinate)}?namespace={segment(namespace)}"
    said = Api(tenant, url, token_file).ask("DELETE", path, None, dedupe_key)
    _tell(said, as_json, f"{said['coordinate']} ({said['id']}): accepted")


@memory.command()
@click.argument("tenant")
@click.argument("start", metavar="FROM")
@click.argument("to")
@click.option("--kind", default="related", show_default=True, help="Empty: take it away.")
@_namespace
@asking
@_json
def link(
    tenant: str, start: str, to: str, kind: str, namespace: str, url: str | None,
    token_file: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Link the memory at FROM with the one at TO.

    \b
    Example:
      soma memory link acme deploy/17 incident/4 --kind caused
    """
    body = {"from": start, "to": to, "kind": kind, "namespace": namespace}
    said = Api(tenant, url, token_file).ask("POST", "/graph/link", body)
    _tell(said, as_json, f"{said['coordinate']} ({said['id']}): accepted")


def _payload(text: str) -> dict[str, Any]:
    """A JSON object, or a text as one."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"text": text}


def _field(text: str) -> tuple[str, Any]:
    """FIELD=JSON; what is no JSON is a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise click.ClickException(f"--where {text}: give FIELD=JSON")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _short(payload: Any) -> str:
    text = plain(json.dumps(payload, ensure_ascii=False))
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _tell(said: Mapping[str, Any], as_json: bool, line: str) -> None:
    click.echo(json.dumps(said) if as_json else line)
