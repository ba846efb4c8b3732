"""Prints the kernels that a processor compiles, or loads, though its warm-up was over.

`python -m tests.contract.warmed NAME`: a process of its own, for others have compiled everything.
"""

import gc
import sys

import click
from numba.core.registry import CPUDispatcher

from agents.engine.warm import warm
from topics import compiled


def specialisations() -> set[str]:
    """Each kernel of ours with the types that it was compiled for."""
    known = (one for one in gc.get_objects() if isinstance(one, CPUDispatcher))
    ours = (one for one in known if one.py_func.__module__.startswith(compiled.PACKAGES))
    return {
        f"{one.py_func.__module__}.{one.py_func.__qualname__}{signature}"
        for one in ours
        for signature in one.overloads
    }


@click.command()
@click.argument("name")
def main(name: str) -> None:
    """Warm up as a worker does, then run each golden scenario, with restarts."""
    from tests.contract.golden import Golden
    from tests.contract.golden_inputs import SCENARIOS
    from tests.contract.harness import SETTINGS

    golden = [Golden(key) for key, one in SCENARIOS.items() if one.processor == name]
    for one in golden:
        warm(one.plan, SETTINGS)
    before = specialisations()
    for one in golden:
        one.restarted()
    for late in sorted(specialisations() - before):
        click.echo(late)
    click.echo(f"{len(before)} kernels were warm", err=True)


if __name__ == "__main__":
    sys.exit(main())
