"""Servers that a proof may stop, kill and start again."""

from typing import Protocol

from ops.stack import Stack


class Server(Protocol):
    """A broker or database of the driver's own, which it may stop."""

    def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""

    def start(self) -> None:
        """Start it again on the same data and wait until it answers."""


class StackPart:
    """A server of a stack that belongs to the driver."""

    def __init__(self, stack: Stack, name: str = "kafka") -> None:
        self.stack, self._name = stack, name

    def stop(self) -> None:
        """Stop it cleanly."""
        self.stack.stop(self._name)

    def kill(self) -> None:
        """SIGKILL."""
        self.stack.kill(self._name)

    def start(self) -> None:
        """Start it again on the same data."""
        self.stack.start(self._name)
