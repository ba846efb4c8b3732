"""Workers of a proof that are killed, one or the broker beside them, and started again."""

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Protocol, Self

from ops.bench.site import Say
from ops.bench.worker import Worker
from ops.prove.servers import Server

DOWN_S = (0.5, 3.0)  # how long a broker is away


class Dealt(Protocol):
    """How many were killed: a part of a proof's report."""

    kills: int  # of workers
    broker_kills: int


class Crew:
    """So many workers, which end with the block."""

    def __init__(self, start: Callable[[], Worker], count: int) -> None:
        self.workers: list[Worker] = []
        self._make, self._count, self._all = start, count, ExitStack()

    def __enter__(self) -> Self:
        try:
            self.start()
            for worker in self.workers:
                worker.ready()
        except BaseException:
            self._all.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._all.close()

    def start(self) -> None:
        """Start them all."""
        self.workers = [self._one() for _ in range(self._count)]

    def kill_all(self) -> None:
        """SIGKILL them all."""
        for worker in self.workers:
            worker.kill()

    def _one(self) -> Worker:
        return self._all.enter_context(self._make())

    def strike(
        self, kills: int, brokers: int, broker: Server | None, rng: random.Random,
        alive_s: tuple[float, float], dealt: Dealt, say: Say,
    ) -> None:  # fmt: skip
        """Kill workers and the broker (None: it lives), in an order by chance, a while apart."""
        blows = ["worker"] * kills + ["broker"] * (brokers if broker is not None else 0)
        rng.shuffle(blows)
        for blow in blows:
            time.sleep(rng.uniform(*alive_s))
            if blow == "broker" and broker is not None:
                broker.kill()
                time.sleep(rng.uniform(*DOWN_S))
                broker.start()
                dealt.broker_kills += 1
            else:
                which = rng.randrange(len(self.workers))
                self.workers[which].kill()
                self.workers[which] = self._one()
                dealt.kills += 1
            say(f"{blow} killed, {dealt.kills + dealt.broker_kills} of {len(blows)}")
