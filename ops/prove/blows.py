"""Strikes: what may happen to a worker, or to a server that it needs, at any moment."""

import time
from collections.abc import Callable
from random import Random

from ops.prove.fleet import Fleet
from ops.prove.servers import Server

PROCESSORS = (
    "predictors", "integrator", "segmentation", "predictors,integrator", "integrator,segmentation",
    "predictors,integrator,segmentation", "control,sleep", "learner,lessons,feedback,canary",
)  # fmt: skip
KINDS = ("kill", "stop", "broker", "broker9", "guest", "leave")


class Blows:
    """Chooses and deals blows from one seeded source of chance."""

    def __init__(
        self,
        random: Random,
        fleet: Fleet,
        broker: Server | None,
        session_timeout_s: float,
        down_s: tuple[float, float],
    ) -> None:
        self.random, self.fleet, self.broker = random, fleet, broker
        self.freeze_s = session_timeout_s + 3.0
        self.down_s = down_s
        self.dealt: dict[str, int] = {}
        self._guests = 0
        self._deal: dict[str, Callable[[], None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "broker": lambda: self._strike(broker, hard=False),
            "broker9": lambda: self._strike(broker, hard=True),
            "guest": self._guest,
            "leave": self._leave,
        }

    def deal(self, kind: str) -> None:
        """One blow; raises ValueError for one that this set-up can't take."""
        if kind not in self._deal or (kind.startswith("broker") and self.broker is None):
            raise ValueError(f"can't deal {kind}: choose from {', '.join(KINDS)}; broker and "
                             "broker9 need a broker of the driver's own")  # fmt: skip
        self._deal[kind]()
        self.dealt[kind] = self.dealt.get(kind, 0) + 1

    def _kill(self) -> None:
        self.fleet.kill(self.random.choice(self.fleet.crew + self.fleet.guests))

    def _stop(self) -> None:
        self.fleet.freeze(self.random.choice(self.fleet.crew), self.freeze_s)

    def _strike(self, server: Server | None, *, hard: bool) -> None:
        assert server is not None
        if hard:
            server.kill()
        else:
            server.stop()
        away_s = self.random.uniform(0.0, 2.0) if hard else self.random.uniform(*self.down_s)
        until = time.monotonic() + away_s
        while time.monotonic() < until:
            self.fleet.tend()
            time.sleep(0.05)
        server.start()

    def _guest(self) -> None:
        """A worker with processors of its own choice joins; at most two of them at a time."""
        if len(self.fleet.guests) >= 2:
            self._leave()
        self._guests += 1
        processors = self.random.choice(PROCESSORS)
        self.fleet.guests.append(self.fleet.start(f"guest-{self._guests}", processors))

    def _leave(self) -> None:
        if self.fleet.guests:
            self.fleet.dismiss(self.random.choice(self.fleet.guests))
