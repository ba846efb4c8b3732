"""Brings memories that wait for vectors to a provider that isn't here, in a thread of its own.

While the provider is down they wait, and are counted. What fails is asked for by halves, down to
one text: that one is given up where it is refused, and else rests, longer each time; a plain text
passed just then, or the provider would be down. Behind a failure other memories and other tenants
have their turn first.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from agents.recall.embedding import HardTexts, NotAsked, Provider, ProviderDown, UnfitText
from agents.recall.memories import Memories
from agents.recall.pace import AGAIN_S, Pace

TEXTS_MAX = 64  # of a tenant at a time: all get their turn
IDLE_S = 0.05
DEFECT_S = 10.0

logger = logging.getLogger(__name__)


class Embedder:
    """Works from `start` to `stop`; nothing to do where the provider is here, or there is none."""

    def __init__(
        self,
        tenants: Callable[[], Mapping[str, Memories]],
        provider: Provider | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tenants, self._clock = tenants, clock
        self._provider = None if provider is None or provider.here else provider
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="embedding", daemon=True)
        self._pace = Pace(TEXTS_MAX)
        self._failed = ""  # the tenant behind which it goes on
        self.why = ""  # no vectors are made, in words

    def start(self) -> None:
        """Begin."""
        if self._provider is not None:
            self._thread.start()

    def stop(self, within_s: float) -> None:
        """End."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        assert self._provider is not None
        while not self._stopping.is_set():
            try:
                worked = self.turn()
            except ProviderDown as error:
                if not self.why:
                    logger.warning("memories wait for vectors: %s", error)
                self.why = str(error)
                self._stopping.wait(max(AGAIN_S, self._provider.rest_s()))
                continue
            except Exception as error:  # a defect: say so, and try others' first
                self.why = f"a defect: {error!r}"
                logger.exception("memories wait %g s for vectors, for a defect", DEFECT_S)
                self._stopping.wait(DEFECT_S)
                continue
            self.why = ""
            if not worked:
                self._stopping.wait(IDLE_S)

    def turn(self) -> int:
        """Some of each tenant's, first of those behind the one that failed; how many were asked
        for. `ProviderDown`.
        """
        tenants = [*self._tenants().items()]
        first = next((k + 1 for k, (name, _) in enumerate(tenants) if name == self._failed), 0)
        worked = 0
        for name, memories in (*tenants[first:], *tenants[:first]):
            if self._stopping.is_set():
                break
            try:
                worked += self.work(memories)
            except NotAsked:
                raise
            except Exception:
                self._failed = name
                raise
        return worked

    def work(self, memories: Memories) -> int:
        """Some of a tenant's, and one that has rested; how many were asked for. `ProviderDown`."""
        if self._provider is None or not memories.waiting:
            return 0
        worked = self._ask(self._provider, memories, memories.texts(self._pace.size))
        return worked + self._ask(self._provider, memories, memories.rested(self._clock()))

    def _ask(
        self, provider: Provider, memories: Memories, asked: Mapping[str, tuple[int, str]]
    ) -> int:
        if not asked:
            return 0
        try:
            vectors = provider.embed_all([text for _, text in asked.values()])
        except NotAsked:
            raise
        except (UnfitText, HardTexts) as error:
            self._pace.failed(len(asked))
            if len(asked) == 1:
                ((id_, (version, _)),) = asked.items()
                self._alone(memories, id_, version, error)
            return len(asked)
        except ProviderDown:
            self._pace.failed(len(asked))
            memories.behind(asked)
            raise
        self._pace.well(len(asked))
        for (id_, (version, _)), vector in zip(asked.items(), vectors, strict=True):
            memories.embedded(id_, version, vector)
        return len(asked)

    def _alone(self, memories: Memories, id_: str, version: int, error: Exception) -> None:
        """A text failed, and nothing but itself did it."""
        if isinstance(error, UnfitText):
            logger.warning("the memory %s has no vector: %s", id_, error)
            memories.embedded(id_, version, None)
        elif memories.rest(id_, version, self._clock()):
            logger.warning("the memory %s has no vector yet: %s", id_, error)
