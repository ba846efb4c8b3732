"""What the shards of one relay share: connections, threads, counters, who may send how much."""

import asyncio
import queue
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from agents.engine.security import security
from agents.outbox.batch import Prepared, Preparer
from agents.outbox.metrics import RelayMetrics
from agents.outbox.receipts import Receipts
from agents.settings import Settings
from stores.names import schema_of
from stores.outbox_relay import RelayConnections, Statements

DRY_S = 1.0  # a tenant without allowance is asked for again after so long


class RelayResources:
    """Connections, threads, allowances and counters; `statements` counts the database's."""

    def __init__(
        self, settings: Settings, topics: Mapping[str, int], receipts: int, metrics: RelayMetrics
    ) -> None:
        """`topics`: name -> partitions of those that may be written; `receipts`: of that topic."""
        self.settings = settings
        self.metrics = metrics
        self.statements = Statements()
        self.schema = schema_of(settings.namespace)
        self.connections = RelayConnections(
            settings.postgres(), self.schema, settings.outbox.parallel, self.statements
        )
        self.turns = asyncio.Semaphore(settings.outbox.parallel)
        self.receipts = Receipts(settings, receipts)
        self.security = security(settings)
        self.touched = False  # rows were sent or refused since the queue was last looked at
        self._dry: dict[str, float] = {}  # tenant -> when to ask for it again
        threads = min(2, settings.threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="relay")
        self._preparers: queue.SimpleQueue[Preparer] = queue.SimpleQueue()
        self.serve(topics)

    def serve(self, topics: Mapping[str, int]) -> None:
        """Write these topics from now on."""
        self.topics = dict(topics)
        fresh: queue.SimpleQueue[Preparer] = queue.SimpleQueue()
        for _ in range(min(2, self.settings.threads)):
            fresh.put(Preparer(topics, self.settings.prefix(""), f"/{self.schema}/outbox"))
        self._preparers = fresh

    async def prepare(self, copied: bytes, most: int) -> Prepared:
        """Check, encode and frame a batch in a thread."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, self._prepare, copied, most
        )

    def _prepare(self, copied: bytes, most: int) -> Prepared:
        preparers = self._preparers
        one = preparers.get_nowait()  # there are as many as threads
        try:
            return one.prepare(copied, most)
        finally:
            preparers.put(one)

    def dry(self) -> list[str]:
        """Tenants that have no allowance left just now."""
        now = time.monotonic()
        if self._dry:
            self._dry = {tenant: until for tenant, until in self._dry.items() if until > now}
        return list(self._dry)

    def spent(self, tenant: str) -> None:
        """The tenant's allowance is used up: leave it out for a while."""
        self._dry[tenant] = time.monotonic() + DRY_S

    async def close(self) -> None:
        """Close the connections; batches that are being prepared end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self.connections.close()
