"""Standard output, as commands in a pipe should treat it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click


def plain(text: str) -> str:
    """The text on one line and without effects: what moves the cursor or colours is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, one: str, many: str = "") -> str:
    """'1 row', '2 rows', '1,000 rows': `many` where it isn't `one` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def say(text: str) -> None:
    """Tell people what goes on, on standard error.

    A terminal that was closed hears nothing, and that is no reason to leave servers running.
    """
    with contextlib.suppress(OSError):
        click.echo(text, err=True)


@dataclass(slots=True)
class Ending:
    """How a block of `until_interrupted` ended, if not by itself."""

    interrupt: KeyboardInterrupt | None = None
    unread: bool = False  # our output has no reader any more

    def broken_off(self, finite: bool) -> None:
        """What has an end of its own, and was broken off before, isn't done: then this raises the
        KeyboardInterrupt, whose signal is the command's exit status.
        """
        if finite and self.interrupt is not None:
            raise self.interrupt


@contextlib.contextmanager
def until_interrupted() -> Iterator[Ending]:
    """End the block quietly on Ctrl-C, and when our output has no reader any more (`head`).

    For what goes on for ever that is its end. Whoever does something finite asks how it ended.
    """
    ending = Ending()
    try:
        yield ending
    except KeyboardInterrupt as interrupt:
        ending.interrupt = interrupt
    except BrokenPipeError:
        ending.unread = True
        # Python flushes at exit, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
