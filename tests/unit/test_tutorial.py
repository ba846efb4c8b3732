"""The tutorial, typed as it stands into one shell, in an empty folder without servers."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.live import transcripts
from topics import compiled

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
LINES_MAX = 60
LIMIT_S = 240.0  # of one command, on a machine that may be busy
once = pytest.mark.skipif(
    bool(compiled.config.BOUNDSCHECK), reason="what `soma new` writes has no kernels"
)


def test_it_is_short() -> None:
    typed = transcripts.typed(PAGE.read_text())
    assert sum(one.command.count("\n") + 1 for one in typed) <= LINES_MAX


@pytest.mark.timeout(4 * LIMIT_S)
@once
def test_each_command_prints_what_stands_below_it(tmp_path: Path) -> None:
    programs, place = tmp_path / "bin", tmp_path / "empty"
    programs.mkdir()
    place.mkdir()
    for name, what in (("soma", "-m agents.cli"), ("pytest", "-m pytest"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {what} "$@"\n')
        program.chmod(0o755)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "PYTEST_"))}
    env["PATH"] = f"{programs}:{env['PATH']}"
    ends = transcripts.run(PAGE.read_text(), env, place, LIMIT_S)
    failures = [f"{why}: {e.command}\n{e.tail}" for e in ends if (why := e.wrong())]
    assert not failures, "\n\n".join(failures)
