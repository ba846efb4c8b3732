"""`soma new`: a processor of your own, that works, with its test."""

import click

SOURCE = "cog.observations"


@click.command()
@click.argument("name")
@click.option(
    "--source", default=SOURCE, show_default=True, metavar="TOPIC",
    help="The topic that it reads.",
)  # fmt: skip
def new(name: str, source: str) -> None:
    """Write a processor NAME into the checkout that `soma` runs from: code, test, schemas, topics.

    It counts what each tenant sends, tells each n-th record and who falls silent: a row of state,
    a sink, two settings and a timer, to be changed into what you want. `soma schema row NAME`
    writes the next version of the row's schema when its dataclass has changed.

    \b
    Example:
      soma new heartbeats --source cog.observations
    """
    from agents.tools import newprocessor

    try:
        made = newprocessor.checked(newprocessor.root_of(), name, source)
        paths = newprocessor.write(made)
    except newprocessor.CantMakeError as error:
        raise click.ClickException(str(error)) from error
    for path in paths:
        click.echo(path.relative_to(made.root))
    click.echo(
        f"Try it: pytest tests/unit/agents/{name}. Run it: soma topics apply; "
        f"SOMA_AGENTS={name} soma worker",
        err=True,
    )
