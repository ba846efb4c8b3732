"""`soma new`: a processor of your own, that works, with its test."""

from pathlib import Path

import click

SOURCE = "cog.observations"


@click.command()
@click.argument("name")
@click.option(
    "--source", default=SOURCE, show_default=True, metavar="TOPIC",
    help="The topic that it reads.",
)  # fmt: skip
def new(name: str, source: str) -> None:
    """Write a package NAME with a processor of your own: code, test, schemas, topics.

    It counts what each tenant sends, tells each n-th record and who falls silent: a row of state,
    a sink, two settings and a timer, to be changed into what you want. `soma schema row NAME`
    writes the next version of the row's schema when its dataclass has changed.

    In a checkout of Soma Stream it becomes a processor of the house instead.

    \b
    Example:
      soma new heartbeats --source cog.observations
    """
    from agents.tools import newpackage, newprocessor

    try:
        inside = _checkout()
        if inside is None:
            made = newpackage.checked(Path.cwd(), name, source)
            paths = newpackage.write(made)
        else:
            made = newprocessor.checked(inside, name, source)
            paths = newprocessor.write(made)
    except newprocessor.CantMakeError as error:
        raise click.ClickException(str(error)) from error
    top = made.root if inside is not None else made.root.parent
    for path in paths:
        click.echo(path.relative_to(top))
    ways = (
        (f"pytest tests/unit/agents/{name}", "")
        if inside is not None
        else (f"cd {name} && pytest", "pip install .; ")
    )
    click.echo(
        f"Try it: {ways[0]}. Run it: {ways[1]}soma topics apply; SOMA_AGENTS={name} soma worker",
        err=True,
    )


def _checkout() -> Path | None:
    """The checkout that `soma` runs from, where we stand in it."""
    from agents.tools import newprocessor

    try:
        root = newprocessor.root_of()
    except newprocessor.CantMakeError:
        return None
    return root if Path.cwd().resolve().is_relative_to(root) else None
