"""A proof as a command: its options are fields of a dataclass, its report is printed as JSON."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol, TypeVar

from agents.settings import Settings, load
from ops.bench.site import Say


class Report(Protocol):
    """A dataclass with what is wrong."""

    @property
    def problems(self) -> Sequence[str]: ...


Options = TypeVar("Options")


def command(
    doc: str | None, options: type[Options], prove: Callable[[Settings, Options, Say], Report]
) -> None:
    """Parse the command line, prove, print; the status is non-zero where something is wrong."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    defaults: Any = options()
    for name, default in asdict(defaults).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = options(**vars(parser.parse_args()))
    found: Any = prove(load(), given, lambda text: print(text, file=sys.stderr, flush=True))
    print(json.dumps(asdict(found)))
    if found.problems:
        sys.exit("; ".join(found.problems))
