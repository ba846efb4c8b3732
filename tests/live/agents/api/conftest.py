"""A PostgreSQL of one test's own, to be stopped and killed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents.settings import Settings
from ops.stack import Stack
from tests.live.agents.projections.compare import migrated
from tests.live.conftest import settings_of


class OwnPostgres:
    """It keeps its port and data through stops and kills; `settings` are for it alone."""

    def __init__(self, stack: Stack, namespace: str, home: Path) -> None:
        self._stack = stack
        self.settings: Settings = migrated(settings_of(stack.up(), namespace, home))

    def stop(self) -> None:
        self._stack.stop("postgres")

    def kill(self) -> None:
        self._stack.kill("postgres")

    def start(self) -> None:
        self._stack.start("postgres")


@pytest.fixture
def postgres(new_home: Callable[[], Path], namespace: str, tmp_path: Path) -> Iterator[OwnPostgres]:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "valkey"))
    try:
        yield OwnPostgres(own, namespace, tmp_path)
    finally:
        own.down()
