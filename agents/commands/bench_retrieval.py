"""`soma bench retrieval`: the verb. The work is in ops/bench/retrieval.py."""

import click

from agents.commands import benching
from agents.settings import load
from agents.tools.output import say


@click.command()
@benching.as_json
def retrieval(as_json: bool) -> None:
    """What is found of real text: likeness, words and both, beside exact lexical search.

    The text is this project's own, with questions written by hand. On the settings' PostgreSQL and
    Redis, in a schema of its own, or on servers started for the run. Needs no broker.

    \b
    Example:
      soma bench retrieval
    """
    from ops.bench import retrieval as bench_retrieval
    from ops.bench.site import on_stores
    from ops.stack import StackError
    from stores.errors import StoreError

    try:
        with on_stores(load(), say) as settings:
            found = bench_retrieval.run(settings, say)
    except (StackError, StoreError, TimeoutError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    benching.finish(bench_retrieval.report(found), found, as_json)
