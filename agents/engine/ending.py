"""Ending in time, whatever hangs: all that counts is in Kafka, so a process may simply go."""

import logging
import os
import sys
import threading
import time
from typing import NoReturn

log = logging.getLogger(__name__)

GRACE_S = 4.5  # from the signal to the end; partitions take 3 s of it at most


def end_in(seconds: float = GRACE_S) -> None:
    """End this process after so long at the latest, from a thread that nothing keeps alive.

    Without a broker Faust's consumer thread waits for an answer that never comes, and keeps the
    process alive for good.
    """
    threading.Thread(target=_end, args=(seconds,), name="ending", daemon=True).start()


def _end(seconds: float) -> None:
    time.sleep(seconds)
    log.warning("not everything let go within %.1f s of the signal; ending all the same", seconds)
    leave(0)  # what was committed is whole, the rest was never counted


def end_now(text: str, status: int) -> None:
    """End this process with one line that says why, from whatever thread."""
    log.critical("soma worker ends: %s", text)
    leave(status)


def leave(status: int) -> NoReturn:
    """End this process with all that it has said, and without taking the interpreter apart.

    Threads that wait in C for a server (a client's, the watchdog's, a service's that didn't end in
    time) would wake in what is left of it, and the process end by SIGSEGV: a worker that had done
    all of its work well was reported as crashed.
    """
    try:
        logging.shutdown()
        sys.stdout.flush()
    finally:  # a full disk doesn't keep it alive
        os._exit(status)


class Repeats(logging.Filter):
    """Lets a message pass once in `every` seconds, and then says how many were like it.

    A client that waits for its broker says so ten times a second.
    """

    def __init__(self, every: float = 10.0) -> None:
        super().__init__()
        self._every = every
        self._seen: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by logging; the key is the message before its values are filled in."""
        key = f"{record.name} {record.levelno} {record.msg}"
        last, held = self._seen.get(key, (0.0, 0))
        if record.created - last < self._every:
            self._seen[key] = (last, held + 1)
            return False
        self._seen[key] = (record.created, 0)
        if held:
            record.msg = f"{record.msg} ({held} more like this)"
        return True


def calm(*loggers: str) -> None:
    """Hold back what these loggers repeat."""
    repeats = Repeats()
    for name in loggers:
        logging.getLogger(name).addFilter(repeats)


CLIENTS = (
    "aiokafka",
    "aiokafka.client",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.producer",
    "aiokafka.producer.sender",
)
