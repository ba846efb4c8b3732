"""What a partition needs of the engine around it."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from faust.types import TP

from agents.engine.plan import Plan
from agents.engine.position import Input, Recovered
from agents.engine.processor import Place
from agents.engine.producer import Transactions
from agents.engine.rebuilds import Rebuild
from agents.engine.recovery import Loader
from agents.engine.workspace import Outcome, Workspace


class Part(NamedTuple):
    """A partition of one processor's source."""

    topic: str
    partition: int
    processor: str

    @property
    def tp(self) -> TP:
        """Which partition."""
        return TP(self.topic, self.partition)


class Host(Protocol):
    """What a partition needs of the engine around it."""

    schema_digest: str

    async def inspect(self, plan: Plan, tp: TP) -> Input: ...
    async def met(self) -> None: ...
    async def loader(self, plan: Plan, place: Place, state_id: str) -> Loader: ...
    async def recover(self, loader: Loader, advances: Callable[[], None]) -> Recovered: ...
    def producer(self, transactional_id: str) -> Transactions: ...
    async def work(
        self, plan: Plan, job: Callable[[Workspace], Outcome], records: int, size: int
    ) -> Outcome: ...
    async def epochs_end(self, plan: Plan, partition: int) -> int: ...
    async def rebuilds(
        self, plan: Plan, partition: int, since: int
    ) -> tuple[list[Rebuild], int]: ...
    async def read_from(self, part: Part, offset: int) -> int: ...
    def hold(self, part: Part) -> None: ...
    def release(self, part: Part) -> None: ...
    def defaults_of(self, plan: Plan) -> dict[str, str]: ...
    def fail(self, where: str, error: BaseException) -> None: ...
