"""`soma settings`: what is in force, and what there is."""

import json
from typing import Any

import click

from agents.settings import load


@click.group()
def settings() -> None:
    """Show the settings in force, and all that there are.

    \b
    Example:
      soma settings print
    """


@settings.command(name="print")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object.")
def print_(json_: bool) -> None:
    """Print every setting as the environment variable that sets it, and where its value comes
    from: default, environment, file or local stack. Secrets are hidden.

    \b
    Example:
      SOMA_NAMESPACE=test soma settings print
    """
    from agents.settings.reading import fields, origin
    from agents.settings.tree import PREFIX

    loaded = load(whole=True)
    values = loaded.shown()
    origins = {variable: origin(loaded, variable) for variable, _ in fields(type(loaded))}
    if json_:
        click.echo(json.dumps(values | {"origins": origins}))
        return
    for variable, whence in origins.items():
        value: Any = values
        for part in variable.removeprefix(PREFIX).lower().split("__", 1):
            value = value[part]
        click.echo(f"{variable}={_text(value)}  # {whence}")


@settings.command()
@click.option("--json", "json_", is_flag=True, help="Print one JSON object, by section.")
def reference(json_: bool) -> None:
    """Print every setting there is: its default, values, scope and what it does, as Markdown.

    \b
    Example:
      soma settings reference > ops/SETTINGS.md
    """
    from agents.settings.reference import as_json, page

    click.echo(json.dumps(as_json()) if json_ else page(), nl=json_)


def _text(value: object) -> str:
    """As the variable would be written."""
    if value is None or isinstance(value, str):
        return value or ""
    return ",".join(map(str, value)) if isinstance(value, list) else json.dumps(value)
