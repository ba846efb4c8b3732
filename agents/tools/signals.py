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


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """Within the block each of them raises KeyboardInterrupt, but for those that are ignored."""
    ends = [one for one in audible() if one is not signal.SIGINT]
    # asyncio knows Ctrl-C by Python's own handler.
    ctrl_c = [one for one in audible() if one is signal.SIGINT]
    with handled(signal.default_int_handler, *ctrl_c), handled(_interrupt, *ends):
        yield


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def status(interrupt: KeyboardInterrupt) -> int:
    """The exit status that says which of them ended a command, as shells have it: 128 and it."""
    return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)


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
        raise KeyboardInterrupt(heard[0])
