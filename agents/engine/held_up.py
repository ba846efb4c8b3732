"""Partitions that an open transaction holds up: the log goes on behind its last stable offset.

Committed records are read up to there, so a producer that leaves a transaction open keeps everybody
from what comes behind it, until the broker ends it: after `transaction.timeout.ms`, or never.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from faust.types import TP

from agents.engine import metrics

LONG_S = 10.0  # our own take less than a second, an import's two

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Hold:
    """Where readers stand, since when (as seen from here), and how many offsets lie behind."""

    offset: int
    since: float
    records: int
    told: bool = False

    def long(self, now: float) -> bool:
        """Whether it isn't a transaction on its way."""
        return now - self.since >= LONG_S


class HeldUp:
    """`look` now and then at what the fetches told."""

    def __init__(self) -> None:
        self._holds: dict[TP, Hold] = {}
        self._shown: dict[TP, tuple[str, str]] = {}  # labels of the gauge

    def look(
        self, ends: Mapping[TP, tuple[int, int]], owners: Mapping[TP, str], now: float
    ) -> dict[TP, int]:
        """Take in stable ends and high watermarks, as fetched last, of the partitions that are
        ours (partition -> processor). Returns how many offsets of each can't be read for long.
        """
        for tp in self._shown.keys() - owners.keys():
            metrics.UNSTABLE.remove(*self._shown.pop(tp))
            self._holds.pop(tp, None)
        for tp, processor in owners.items():
            labels = self._shown[tp] = processor, str(tp.partition)
            stable, high = ends.get(tp, (0, 0))
            metrics.UNSTABLE.labels(*labels).set(max(0, high - stable))
            self._note(tp, stable, high, now)
        return {tp: one.records for tp, one in self._holds.items() if one.long(now)}

    def _note(self, tp: TP, stable: int, high: int, now: float) -> None:
        if high <= stable:
            self._holds.pop(tp, None)
            return
        one = self._holds.get(tp)
        if one is None or one.offset != stable:
            one = self._holds[tp] = Hold(stable, now, 0)
        one.records = high - stable
        if one.long(now) and not one.told:
            one.told = True
            log.warning(
                "%s/%d waits: a transaction has been open from offset %d on for %.0f s; "
                "`soma doctor --hanging` says whose",
                *tp, stable, now - one.since,
            )  # fmt: skip

    def shown(self) -> dict[str, dict[str, Any]]:
        """Those that last long, for people."""
        return {
            f"{tp.topic}/{tp.partition}": {
                "from_offset": one.offset,
                "unstable_records": one.records,
                "since": f"{datetime.fromtimestamp(one.since, UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            for tp, one in self._holds.items()
            if one.long(time.time())
        }
