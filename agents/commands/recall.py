"""`soma recall`: the HTTP API with all memories in it."""

import click

from agents.settings import load


@click.command()
@click.option("--host", help="Address to listen on. Overrides SOMA_API__HOST.")
@click.option("--port", type=click.IntRange(0, 65_535), help="Overrides SOMA_API__PORT.")
def recall(host: str | None, port: int | None) -> None:
    """Run the HTTP API and answer searches of memories, until SIGTERM or Ctrl-C.

    It is `soma api` with SOMA_RECALL__SERVE=on: the same routes, tokens and limits. It reads all of
    memory.latest into memory first (/readyz says when it is done) and follows it. A snapshot in
    SOMA_RECALL__FOLDER, or recall in SOMA_HOME, lets the next one start quickly. Its journal is
    SOMA_JOURNAL__FOLDER, or journal-recall in SOMA_HOME: a soma api beside it has the other.

    \b
    Example:
      SOMA_API__AUTH=off soma recall --port 8081
      curl localhost:8081/memories/search -H content-type:application/json -d '{"text":"x"}'
    """
    from agents.commands.api import run, with_

    settings = with_(load(), host, port)
    own = settings.recall.model_copy(update={"serve": "on"})
    folder = settings.journal.folder or settings.home / "journal-recall"
    journal = settings.journal.model_copy(update={"folder": folder})
    run(settings.model_copy(update={"recall": own, "journal": journal}))
