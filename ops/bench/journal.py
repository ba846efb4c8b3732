"""How fast the local journal takes events, each synced to the disk before it is answered.

    python -m ops.bench.journal --seconds 3

Writers of 200-byte payloads that each wait for the answer; then everything is drained into a sink
that does nothing. Prints one JSON line per number of writers.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stores.journal import Journal, JournalEvent, Verdict

WRITERS = (1, 8, 64)
PAYLOAD = json.dumps({"text": "x" * 188})


async def measured(folder: Path, writers: int, seconds: float) -> dict[str, object]:
    """Appends a second, their latencies in ms, and rows drained a second."""
    journal = await asyncio.to_thread(Journal.open, folder)
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def write(k: int) -> None:
        n = 0
        while (begun := time.perf_counter()) < end:
            name = f"tenant-{k % 100}"
            await journal.append(JournalEvent("memory.events", name, name, PAYLOAD, f"{k}-{n}"))
            took.append(time.perf_counter() - begun)
            n += 1

    async def sink(events: Sequence[JournalEvent]) -> list[Verdict]:
        return [Verdict("drained")] * len(events)

    try:
        begun = time.perf_counter()
        await asyncio.gather(*(write(k) for k in range(writers)))
        rate = len(took) / (time.perf_counter() - begun)
        begun = time.perf_counter()
        done = await journal.drain(sink)
        drained = done.drained / (time.perf_counter() - begun)
    finally:
        journal.close()
    took.sort()
    return {
        "writers": writers,
        "appends_per_s": round(rate),
        "p50_ms": round(1e3 * took[len(took) // 2], 2),
        "p99_ms": round(1e3 * took[int(len(took) * 0.99)], 2),
        "drained_per_s": round(drained),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measure in a folder below --folder (a disk: a file system in memory syncs nothing)."""
    parser = argparse.ArgumentParser(description="Appends a second with a sync each.")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, default=Path.home())
    given = parser.parse_args()
    for writers in WRITERS:
        with tempfile.TemporaryDirectory(prefix="soma-bench-", dir=given.folder) as folder:
            result = asyncio.run(measured(Path(folder) / "journal", writers, given.seconds))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
