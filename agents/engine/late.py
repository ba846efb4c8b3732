"""Names what takes long while it does: a decision or a law may never come back."""

import logging
from collections.abc import Iterable, Mapping

from agents.engine.host import Part
from agents.engine.partition import Partition
from agents.engine.processor import LocalPolicy, UnderWay
from agents.policy.bundle import BUNDLES, Bundles

LONG_S = 1.0  # so long may a fold with a policy keep others waiting for its turn

log = logging.getLogger(__name__)


class Late:
    """Looks when it is told to, and names each once. `now` is monotonic."""

    def __init__(self, policy_dir: object) -> None:
        """`policy_dir`: where policies lie, for the log; none: they come in band."""
        self._where = policy_dir or "force"
        self._told: set[UnderWay] = set()
        self._slow: dict[Part, float] = {}  # when folds began that have been named

    def decisions(self, asked: Iterable[object], now: float) -> None:
        """Of the policies, and of those in band."""
        own = [policy for policy in asked if isinstance(policy, LocalPolicy)]
        policies: list[LocalPolicy | Bundles] = [*own, BUNDLES]
        long = {one for p in policies for one in p.under_way() if now - one.since > LONG_S}
        for one in long - self._told:
            log.warning(
                "the policy in %s has been deciding for %.1f s about tenant %s, leader %s: "
                "the tenant's partition waits",
                self._where, now - one.since, one.tenant, one.leader,
            )  # fmt: skip
        self._told = long

    def folds(self, partitions: Mapping[Part, Partition], now: float) -> None:
        """Of the owned partitions."""
        for part, partition in partitions.items():
            began = partition.progress.began
            if (text := partition.slow(now)) and self._slow.get(part) != began:
                self._slow[part] = began
                log.warning("%s/%d: %s; this partition waits", *part.tp, text)
