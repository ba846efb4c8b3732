"""A transcript that isn't what happens is found out."""

import os
from pathlib import Path

import pytest

from tests.live.transcripts import run, typed


def page(*lines: str) -> str:
    return "\n".join(("Words.", "```console", *lines, "```", "More words.", ""))


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        (("$ echo one; echo two; echo three", "one", "three"), ""),
        (("$ echo one; echo two", "two", "one"), "it didn't print: one"),
        (("$ echo 17 rows of 4", "… rows of …"), ""),
        (("$ echo 17 rows", "…", "18 rows"), "it didn't print: 18 rows"),
        (("$ false",), "status 1"),
        (("$ false | true",), "status 1"),
        (("$ sleep 60", "…"), "it didn't end in time"),
    ],
)
def test_each_line_is_looked_for(lines: tuple[str, ...], wrong: str, tmp_path: Path) -> None:
    (one,) = run(page(*lines), os.environ, tmp_path, 1.5)
    assert one.wrong() == wrong


def test_it_is_one_shell_and_a_command_may_have_lines(tmp_path: Path) -> None:
    text = page(
        "$ cat > some <<'END'", "> a", ">", "> b", "> END", "$ N=$(wc -l < some)", "$ echo $N", "3"
    )
    first, *others = run(text, os.environ, tmp_path, 20.0)
    assert first.command.count("\n") == 4 and not first.shown
    assert [one.wrong() for one in (first, *others)] == ["", "", ""]


def test_what_stands_outside_of_such_blocks_is_not_typed() -> None:
    assert typed("$ rm x\n```sh\n$ rm y\n```\n") == []
