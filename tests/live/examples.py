"""The examples that users are shown, in help texts and in pages, as shell commands."""

import re
from collections.abc import Iterator

import click

from agents.cli import main
from tests.live import transcripts
from tests.live.helpers import REPO

FOLDERS = ("docs", "ops")
PAGES = (
    "README.md",
    *sorted(str(p.relative_to(REPO)) for folder in FOLDERS for p in (REPO / folder).rglob("*.md")),
)
HEADS = ("Example:", "Examples:", "Start here:")
# A word in capitals stands for a reader's own; SOMA_NAME=value is meant as it is.
OWN_WORD = re.compile(r"(?<![\w$'\"])[A-Z]{2,}(?![\w=])")


def from_help() -> Iterator[str]:
    """Each command below Example(s): in the help of each verb."""
    for command in _commands(main, click.Context(main)):
        block: list[str] | None = None
        for line in [*(text.strip() for text in (command.help or "").splitlines()), ""]:
            if line in HEADS:
                block = []
            elif block is not None and line:
                block.append(line)
            elif block is not None:
                yield from _joined(block)
                block = None


def _commands(command: click.Command, context: click.Context) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _commands(found, context)


def from_pages() -> Iterator[str]:
    """Each command of ours in a block of code, or in a sentence with at least two words more."""
    for page in PAGES:
        # Transcripts are typed as they stand, elsewhere.
        text = transcripts.BLOCK.sub("", (REPO / page).read_text())
        blocks = re.findall(r"(?m)^(?:    |\t)(.*)$", re.sub(r"(?m)^```.*$", "", _indented(text)))
        yield from (
            line.strip()
            for line in _joined(blocks)
            if re.search(r"\bsoma [a-z]+", line) and "─" not in line
        )
        for code in re.findall(r"`([^`\n]+)`", text):
            words = re.match(r"(?:SOMA_\S+=\S+ )*soma( .+)$", code)
            if words and not _only_names(words[1].split()) and not OWN_WORD.search(code):
                yield code


def _only_names(words: list[str]) -> bool:
    """Whether these words name a command, or an option of it, and say no more."""
    command: click.Command | None = main
    while words and isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words[0])
        words = words[1:]
    if command is None or not words:
        return command is not None
    last = [one for one in command.params if words[-1] in one.opts]
    return any(isinstance(one, click.Option) and not one.is_flag for one in last)


def _indented(text: str) -> str:
    """Fenced blocks as indented ones."""
    parts = text.split("```")
    for k in range(1, len(parts), 2):
        body = parts[k].partition("\n")[2]
        parts[k] = "\n" + "\n".join("    " + line for line in body.splitlines()) + "\n"
    return "".join(parts)


def _joined(lines: list[str]) -> Iterator[str]:
    """Commands that go on over a line's end, as one; comments taken off."""
    whole = ""
    for line in lines:
        whole += re.sub(r"\s+#\s.*$", "", line.strip()).removesuffix("\\")
        if line.rstrip().endswith(("|", "\\")):
            whole += " "
            continue
        yield whole.strip()
        whole = ""
    if whole:
        yield whole.strip()


def examples() -> list[str]:
    """All of them, each once, in order."""
    found = [*from_help(), *from_pages()]
    return list(dict.fromkeys(one for one in found if re.search(r"\bsoma\b|\bcurl\b", one)))
