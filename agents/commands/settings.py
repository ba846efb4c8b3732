"""`soma settings`: what is in force."""

import json

import click
from pydantic import BaseModel

from agents.settings import load


@click.group()
def settings() -> None:
    """Show the settings in force.

    \b
    Example:
      soma settings print
    """


@settings.command(name="print")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
def print_(json_: bool) -> None:
    """Print every setting as the environment variable that sets it; secrets are hidden.

    \b
    Example:
      SOMA_NAMESPACE=test soma settings print
    """
    loaded = load()
    values = loaded.shown()
    if json_:
        click.echo(json.dumps(values))
        return
    for name, value in values.items():
        group = isinstance(getattr(loaded, name), BaseModel)
        nested = {f"{name}__{part}": one for part, one in value.items()} if group else None
        for path, one in (nested or {name: value}).items():
            click.echo(f"SOMA_{path.upper()}={_text(one)}")


def _text(value: object) -> str:
    """As the variable would be written."""
    if value is None or isinstance(value, str):
        return value or ""
    return ",".join(map(str, value)) if isinstance(value, list) else json.dumps(value)
