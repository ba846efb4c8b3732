"""cog.segments -> memory.events: each segment is an episode worth remembering, where `episodes` is
on: what led, for how long, with which errors, and what ended it.

Event and memory have ids that follow from the segment's, so a segment is remembered once.
"""

import json
from dataclasses import dataclass
from math import isfinite
from typing import Any

from agents.coordinates import event_id, memory_id
from agents.kit import Emit, Reads, RowProcessor
from agents.kit.setting import OFF_ON, Setting

SEGMENTS, EVENTS = "cog.segments", "memory.events"
EPISODES = "episodes"
NAMESPACE = "episodes"
SETTINGS = {
    EPISODES: Setting(
        "off", "whether each segment becomes a memory in the namespace episodes", choices=OFF_ON
    )
}
REMEMBERED = "soma_episodes_total"
NUMBERS = ("dwell_ms", "frames", "score", "mean_error", "peak_error", "mean_confidence")
TEXTS = ("segment_id", "frame_id", "domain", "leader", "evidence")
TIMES = ("start_ts", "boundary_ts", "detected_ts")


@dataclass(slots=True)
class Brought:
    """Nothing needs to be known."""

    some: bool = False


def remember(_: Brought, segment: Any, out: Emit) -> None:
    """Make a memory of a segment."""
    out.forget()
    if out.setting(EPISODES) != OFF_ON[1]:
        return
    coordinate = f"segment:{segment.segment_id}"
    key = f"episode:{segment.segment_id}"
    peak = segment.peak_error
    out.to(EVENTS, {
        "event_id": event_id(segment.tenant, key), "id": memory_id(segment.tenant, coordinate),
        "tenant": segment.tenant, "namespace": NAMESPACE, "type": "created",
        "ts": segment.detected_ts, "coordinate": coordinate, "memory_type": "episodic",
        "payload": json.dumps(episode(segment), ensure_ascii=False, separators=(",", ":")),
        "importance": peak if isfinite(peak) else None, "dedupe_key": key,
    })  # fmt: skip
    out.count(REMEMBERED)


def episode(segment: Any) -> dict[str, Any]:
    """What is remembered of a segment; a number that isn't finite is null. Times are microseconds.

    `text` says it in words, for who looks for words.
    """
    leader = segment.leader or "nobody"
    said = (
        f"{segment.domain}: {leader} led for {segment.dwell_ms / 1000:.1f} s "
        f"({segment.frames} frames), mean error {segment.mean_error:.3g}, peak error "
        f"{segment.peak_error:.3g}; ended by {segment.evidence}"
    )
    numbers = {one: getattr(segment, one) for one in NUMBERS}
    return {
        "kind": "episode", "text": said,
        **{one: getattr(segment, one) for one in (*TEXTS, *TIMES)},
        **{name: one if isfinite(one) else None for name, one in numbers.items()},
    }  # fmt: skip


PROCESSOR = RowProcessor(
    "episodes",
    source=SEGMENTS,
    sinks=(EVENTS,),
    row=Brought,
    fold=remember,
    settings=SETTINGS,
    switch=EPISODES,
    reads=Reads(ts="detected_ts"),
    counts={REMEMBERED: "Segments that became memories."},
)
