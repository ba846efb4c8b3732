"""A service: it runs beside the processors of a worker, from `start` to `stop`.

A package of agents/ that has some gives them in its service.py: `services(settings)`. They are
found and chosen (SOMA_AGENTS) as processors are.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STOP_S = 5.0

logger = logging.getLogger(__name__)


class Service(ABC):
    """Runs in a thread of its own; `error` says why it ended by itself."""

    topics: Sequence[str] = ()  # without namespace; a worker starts only where they are as wanted

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: Exception | None = None
        self.stopping = threading.Event()
        self._failed: Callable[[Exception], None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def work(self) -> None:
        """In its thread, until `stopping` is set. What is raised has ended the service."""

    def warm(self) -> None:  # noqa: B027 (few have any)
        """Compile its kernels, or load them, before the worker starts."""

    def wake(self) -> None:  # noqa: B027 (most look at `stopping` often enough)
        """Heard when `stopping` is set, in the thread that stops it."""

    def lag(self) -> Mapping[int, int]:
        """Partition -> records that it hasn't done with, of the partitions held."""
        return {}

    def stopped(self) -> Mapping[str, str]:
        """Parts of it that wait for an operator or stand still, and why: one word each.

        Not ready while any do.
        """
        return {}

    def held_up(self) -> Mapping[str, Mapping[str, Any]]:
        """Partitions that another's open transaction holds up (agents/engine/held_up.py)."""
        return {}

    def waits(self) -> str:
        """For whom it waits, in words; empty while it doesn't. The worker is ready all the same."""
        return ""

    def start(self, failed: Callable[[Exception], None] | None = None) -> None:
        """Begin. `failed` hears, in that thread, the error that ended it: the worker should too."""
        self._failed = failed
        self._thread.start()

    def stop(self, seconds: float = STOP_S) -> None:
        """Let it end what it has at hand, for so long at most."""
        self.stopping.set()
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(seconds)
            if self._thread.is_alive():
                logger.warning("the service %s hasn't ended within %.1f s", self.name, seconds)

    def _run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.error = error
            logger.exception("The service %s has ended", self.name)
            if self._failed is not None:
                self._failed(error)
