"""Transcripts in pages: what a reader types, and what stands below it, run in one shell, in order.

In a block ```console, a line that begins with `$ ` is typed (`> ` goes on with it); the others are
what is printed. Each must be printed by the command above it, in that order: `…` stands for
anything, and a line of it alone for any lines. Lines of the command's that aren't shown are none of
a reader's business.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ANY = "…"
MARK = "\x1e"
LOOK_S = 0.1
TAIL = 40  # lines
BLOCK = re.compile(r"(?ms)^```console\n(.*?)^```$")


@dataclass
class Typed:
    """A command of a page, and the lines that stand below it."""

    command: str
    shown: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    status: int | None = None

    def wrong(self) -> str:
        """What isn't as the page says; empty if all is."""
        if self.status is None:
            return "it didn't end in time"
        left = iter(self.printed)
        for line in self.shown:
            pattern = re.escape(line).replace(re.escape(ANY), ".*")
            if line != ANY and not any(re.fullmatch(pattern, one) for one in left):
                return f"it didn't print: {line}"
        return f"status {self.status}" if self.status else ""

    @property
    def tail(self) -> str:
        """The end of what was printed."""
        return "\n".join(self.printed[-TAIL:])


def typed(page: str) -> list[Typed]:
    """All that a page's transcripts have a reader type."""
    found: list[Typed] = []
    for block in BLOCK.findall(page):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Typed(line[2:]))
            elif line == ">" or line.startswith("> "):
                found[-1].command += "\n" + line[2:]
            elif line:
                found[-1].shown.append(line.strip())
    return found


def run(page: str, env: Mapping[str, str], folder: Path, seconds: float) -> list[Typed]:
    """Type it all into one shell, whose variables stay; each command may take so long."""
    found = typed(page)
    script, out = folder / "transcript.sh", folder / "transcript.out"
    script.write_text("".join(f"{one.command}\necho '{MARK}'$?\n" for one in found))
    with out.open("wb") as into:
        shell = subprocess.Popen(
            ["bash", "-o", "pipefail", str(script)], env=dict(env), cwd=folder,
            stdin=subprocess.DEVNULL, stdout=into, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    over, since = 0, time.monotonic()
    while shell.poll() is None and time.monotonic() < since + seconds:
        time.sleep(LOOK_S)
        if (now := out.read_text(errors="replace").count(MARK)) > over:
            over, since = now, time.monotonic()
    if shell.poll() is None:
        os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    _sort(found, out.read_text(errors="replace").split(MARK))
    return found


def _sort(found: list[Typed], parts: list[str]) -> None:
    """Give each command what it printed: behind a mark stands the status of the one before."""
    for k, one in enumerate(found[: len(parts)]):
        behind = parts[k].partition("\n")[2] if k else parts[k]
        one.printed = [line.strip() for line in behind.splitlines()]
        if k + 1 < len(parts):
            one.status = int(parts[k + 1].partition("\n")[0])
