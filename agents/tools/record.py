"""Record this machine as a series: `python -m agents.tools.record FILE [SECONDS] [INTERVAL]`."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agents.tools import series
from agents.tools.machine import Machine, Observation


def samples(seconds: float, interval: float) -> Iterator[tuple[float, list[Observation]]]:
    """Samples of this machine every `interval` seconds, with the seconds since the first."""
    machine, start = Machine(), time.monotonic()
    for k in range(int(seconds / interval)):
        time.sleep(max(0.0, start + (k + 1) * interval - time.monotonic()))
        yield k * interval, machine.sample()


def main(path: str, seconds: str = "600", interval: str = "1") -> None:
    """Record for so many seconds and say how many rows were written."""
    rows = series.write(Path(path), samples(float(seconds), float(interval)))
    print(f"{rows} rows in {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
