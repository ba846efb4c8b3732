"""Outputs of a fold, from its thread to the transactions of its job, each of them once.

What a step takes is all that came of the records up to an offset, which is the job's place. Since a
fold gives the same whatever it is cut into, who goes on for a worker that died folds up to that
place again, keeps nothing, and sends what comes behind.
"""

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from agents.engine.plan import Plan
from agents.history.beside import Beside
from agents.history.errors import HistoryError
from agents.history.framed import Framed, Part
from agents.history.states import Past
from agents.replay.modes import Step

NOTHING_SENT = -1
PACKED_MAX = 8 << 20  # bytes that wait for a transaction; then the fold does
BATCHES_MAX = 500  # likewise; each is a request of its own
LOOK_S = 0.2  # until a fold that waits looks whether it is to end
TAKEN_S = 300.0  # for what waits to be taken: a job that the broker lets wait begins anew


class Handover:
    """Of one partition. The fold's thread calls `begin` and `hear`, the job's loop `step`."""

    def __init__(
        self, plan: Plan, targets: Mapping[str, Mapping[str, Any]], tenants: Collection[str],
        sent_to: int, stop: threading.Event,
    ) -> None:  # fmt: skip
        """`targets`: by the sinks' names, as shadows.targets_of gives them. `sent_to`: the offset
        before which all is sent, or NOTHING_SENT. `stop`: nobody wants the fold any more.
        """
        topics = {name: str(one["topic"]) for name, one in targets.items()}
        self._framed = Framed(plan, topics, tenants)
        self._sent_to, self._stop = sent_to, stop
        self._changed = threading.Condition()
        self._part, self._packed, self._at = Part(), 0, NOTHING_SENT
        self._begun = False

    def begin(self, beside: Beside) -> None:
        """From where on what is folded is to be sent. HistoryError."""
        past, at = beside.past, self._sent_to
        if beside.why:
            raise HistoryError(
                f"{past.where}: {beside.why}: its outputs can be made once its state is there: "
                "`--apply` brings it back"
            )
        if at != NOTHING_SENT:
            if not past.begun <= at <= beside.until:
                raise HistoryError(
                    f"{past.where}: outputs are sent to offset {at}, and the log can be folded "
                    f"from {past.begun} to {beside.until} now"
                )
            past.fold_to(at)
        past.folding.frame(self._framed)
        self._begun = True

    def hear(self, past: Past) -> None:
        """The fold has got on: hand over what came of it, and wait while much is under way.

        TimeoutError where nobody takes it.
        """
        if not self._begun:
            return
        part = self._framed.take()
        with self._changed:
            self._part.join(part)
            self._packed += part.packed
            self._at = past.at
            until = time.monotonic() + TAKEN_S
            while self._full and not self._stop.is_set():
                if time.monotonic() > until:
                    raise TimeoutError(
                        f"no transaction took {self._packed:,} bytes of outputs in {TAKEN_S:g} s"
                    )
                self._changed.wait(LOOK_S)

    @property
    def _full(self) -> bool:
        return self._packed >= PACKED_MAX or len(self._part.sends) >= BATCHES_MAX

    def step(self, partition: int, total: Counter[str]) -> Step:
        """All that came since the last time, but for offsets and records; `total` counts it."""
        with self._changed:
            part, self._part, self._packed, at = self._part, Part(), 0, self._at
            self._changed.notify_all()
        total.update(part.sent)
        return Step(
            {} if at == NOTHING_SENT else {partition: at}, sent=part.sent.total(), size=part.size,
            sends=part.sends, said={"sent": dict(total)},
        )  # fmt: skip
