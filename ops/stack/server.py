"""What every part of the stack offers: prepare once, launch, say whether it answers, stop."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

import psutil

Say = Callable[[str], None]


class StackServer(ABC):
    """One server of the stack, with its data and logs under `home`."""

    name: ClassVar[str]
    title: ClassVar[str]
    port_names: ClassVar[tuple[str, ...]]  # the first is the one users connect to
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    end_signal: ClassVar[signal.Signals] = signal.SIGTERM  # where its data is removed at once
    start_s: ClassVar[float] = 60.0
    stop_s: ClassVar[float] = 30.0

    def __init__(self, home: Path, ephemeral: bool, say: Say) -> None:
        self.home = home
        self.ephemeral = ephemeral
        self.say = say

    @property
    def log(self) -> Path:
        """Where the server's output goes."""
        return self.home / "logs" / f"{self.name}.log"

    @property
    @abstractmethod
    def marker(self) -> tuple[str, ...]:
        """Words of the command line by which the running server is found again."""

    @abstractmethod
    def prepare(self, ports: Mapping[str, int]) -> None:
        """Make ready what a start needs; returns at once when nothing is missing."""

    @abstractmethod
    def launch(self, ports: Mapping[str, int]) -> psutil.Process:
        """Start the server; it needn't answer yet."""

    @abstractmethod
    def ready(self, ports: Mapping[str, int]) -> bool:
        """Whether the server answers a client."""

    @abstractmethod
    def address(self, ports: Mapping[str, int]) -> str:
        """What a client needs to connect, secrets included."""

    @abstractmethod
    def remove(self) -> None:
        """Remove the data of a server that doesn't run."""
