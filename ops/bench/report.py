"""Tables on the terminal, and the section of RESULTS.md that each command rewrites as its own."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ops.bench.machine import describe

RESULTS = Path(__file__).with_name("RESULTS.md")
TITLE = "# Benchmark results\n\nWritten by `soma bench …`; each command rewrites its own section.\n"


@dataclass(frozen=True)
class Report:
    """One command's result: a table, how it was measured, and what else to know."""

    name: str  # of the section: the verb
    columns: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    method: str
    notes: Sequence[str] = ()

    def markdown(self, machine: str) -> str:
        """The section of RESULTS.md."""
        lines = [f"## soma bench {self.name}", "", machine, ""]
        lines += [
            "| " + " | ".join(row) + " |" for row in (self.columns, ["---"] * len(self.columns))
        ]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        lines += ["", self.method, ""]
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"


def spread(values: Sequence[float], digits: int = 0) -> str:
    """median (min-max), with thousands separated."""
    if not values:
        return "-"
    middle, low, high = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return f"{middle:,.{digits}f}"
    return f"{middle:,.{digits}f} ({low:,.{digits}f} - {high:,.{digits}f})"


def show(report: Report, machine: str) -> None:
    """Print the table for people."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    table = Table(title=f"soma bench {report.name}")
    for k, column in enumerate(report.columns):
        table.add_column(column, justify="left" if k == 0 else "right", no_wrap=True)
    for row in report.rows:
        table.add_row(*row)
    console.print(table)
    for line in (machine, report.method, *report.notes):
        console.print(line, markup=False)


def write(report: Report, load_before: float, path: Path = RESULTS) -> str:
    """Replace the command's section in RESULTS.md; the others stay. Returns the machine's line."""
    machine = describe(load_before)
    text = path.read_text() if path.exists() else TITLE
    sections = re.split(r"(?m)^(?=## )", text)
    mine = report.markdown(machine)
    kept = [s for s in sections[1:] if not s.startswith(f"## soma bench {report.name}\n")]
    parts = [sections[0].rstrip(), *sorted(s.rstrip() for s in [*kept, mine])]
    path.write_text("\n\n".join(parts) + "\n")
    return machine
