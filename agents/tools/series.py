"""A recorded real series: read, written, and played again (see recorded/README.md).

CSV with a header: second,tenant,domain,v0,v1,… ; `second` counts from the start of the recording.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TextIO

from agents.tools.machine import DIM, Observation

RECORDED = "machine.csv"
PREFIX = "recorded."  # before the names of its tenants when it is played
ROWS_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded vector; `second` since the start of the recording."""

    second: float
    tenant: str
    domain: str
    vector: tuple[float, ...]


def recorded() -> list[Row]:
    """The series that comes with the package."""
    place = resources.files("agents.tools") / "recorded" / RECORDED
    return read(io.StringIO(place.read_text(encoding="utf-8")))


def read(file: TextIO) -> list[Row]:
    """Rows of an open CSV file; ValueError names the line that isn't one."""
    lines = csv.reader(file)
    next(lines, None)
    rows: list[Row] = []
    for number, cells in enumerate(lines, start=2):
        try:
            row = Row(float(cells[0]), cells[1], cells[2], tuple(float(c) for c in cells[3:]))
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number} isn't second,tenant,domain,numbers: {error}") from None
        if len(rows) >= ROWS_MAX:
            raise ValueError(f"more than {ROWS_MAX} lines")
        rows.append(row)
    return rows


def write(path: Path, samples: Iterable[tuple[float, list[Observation]]]) -> int:
    """Write samples (seconds since the start, observations) as CSV; returns the rows written."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["second", "tenant", "domain", *(f"v{j}" for j in range(DIM))])
        for second, seen in samples:
            for one in seen:
                numbers = (f"{x:.4g}" for x in one.vector)
                out.writerow([f"{second:g}", one.tenant, one.domain, *numbers])
                count += 1
            file.flush()
    return count


def steps(rows: list[Row]) -> Iterator[tuple[float, list[Row]]]:
    """The rows grouped by their second, in order."""
    group: list[Row] = []
    for row in rows:
        if group and row.second != group[0].second:
            yield group[0].second, group
            group = []
        group.append(row)
    if group:
        yield group[0].second, group
