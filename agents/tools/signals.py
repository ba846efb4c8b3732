"""Signals that end a command: SIGTERM and SIGHUP (its terminal is closed) act as Ctrl-C does."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import Any

Handler = Callable[[int, Any], Any] | signal.Handlers
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def audible() -> list[signal.Signals]:
    """Those of them that aren't ignored.

    A shell ignores SIGHUP for what `nohup` starts, and SIGINT for what it starts in its background.
    """
    return [one for one in ENDING if signal.getsignal(one) is not signal.SIG_IGN]


@contextlib.contextmanager
def handled(handler: Handler, *numbers: signal.Signals) -> Iterator[None]:
    """Within the block these signals have this handler."""
    before = [(number, signal.signal(number, handler)) for number in numbers]
    try:
        yield
    finally:
        for number, former in before:
            signal.signal(number, signal.SIG_DFL if former is None else former)


def as_ctrl_c() -> contextlib.AbstractContextManager[None]:
    """Within the block each of them raises KeyboardInterrupt, but for those that are ignored."""
    return handled(signal.default_int_handler, *audible())


def deaf() -> contextlib.AbstractContextManager[None]:
    """No signal breaks off what puts things away: it has time limits of its own."""
    return handled(signal.SIG_IGN, *ENDING)


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """What would end the command within the block is heard at its end."""
    heard: list[int] = []
    with handled(lambda number, _: heard.append(number), *audible()):
        yield
    if heard:
        raise KeyboardInterrupt
