"""`soma bench recall`: exact search in memory, beside faiss. The measuring is recall_run.py's."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ops.bench.report import Report

ROOT = Path(__file__).parents[2]
PARTS = ("exact", "large", "open", "foreign")
LIMIT_S = 3600.0
CHECKED = 20
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
METHOD = (
    "384 dimensions, top 10, one thread, unit vectors of normal noise (the hardest kind: nothing "
    "stands out). Exact and large: each query by faiss and by ours in turn, p50 on the clock and "
    "of CPU time (which others on the machine disturb less); recall and ids against float64 "
    "through all rows. Open: searches at a fixed rate over all tenants in turn, from when each was "
    "due to its answer."
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What is measured."""

    parts: Sequence[str] = PARTS
    rows: int = 100_000
    large: int = 1_000_000
    queries: int = 100
    checked: int = CHECKED  # of them, against float64, where there are many rows
    tenants: int = 100
    each: int = 1000  # memories of one; ten times as many where foreign hits are looked for
    seconds: float = 5.0  # at each rate
    searches: int = 100_000


class FailedError(Exception):
    """The measuring process ended with an error, or there is no faiss; the text says which."""


def run(workload: Workload) -> dict[str, Any]:
    """What recall_run.py prints. FailedError."""
    words = [str(_python()), "-m", "ops.bench.recall_run", json.dumps(asdict(workload))]
    done = subprocess.run(
        words, cwd=ROOT, env=os.environ | ONE_THREAD, capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise FailedError("\n".join(done.stderr.splitlines()[-10:]))
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _python() -> Path:
    """A Python with faiss: this one, or that of .venv-bench. FailedError."""
    for python in (Path(sys.executable), ROOT / ".venv-bench/bin/python"):
        ask = [str(python), "-c", "import faiss"]
        if not python.exists():
            continue
        told = subprocess.run(ask, capture_output=True, timeout=LIMIT_S, check=False)
        if told.returncode == 0:
            return python
    raise FailedError("faiss isn't installed: `make bench` makes .venv-bench with it")


def report(found: dict[str, Any]) -> Report:
    """The table."""
    rows = [
        (
            f"{one['n']:,} memories", one["name"], f"{one['p50_ms']:.2f} ms",
            f"{one['cpu_ms']:.2f} ms",
            f"recall@10 {one['recall']:.3f}, {one['mb']:.0f} MB" if "recall" in one else "",
        )
        for part in ("exact", "large") for one in found.get(part, ())
    ]  # fmt: skip
    rows += [
        (
            f"open loop, {one['load']:.0%} load", "32 bits", f"{one['p50_ms']:.2f} ms", "",
            f"p99 {one['p99_ms']:.2f} ms = {one['p99_ms'] / one['service_ms']:.1f} × service",
        )
        for one in found.get("open", ())
    ]  # fmt: skip
    if one := found.get("foreign"):
        said = f"{one['foreign']} foreign of {one['hits']:,} hits"
        rows.append((f"{one['tenants']} × {one['each']:,}", f"{one['searches']:,}", "", "", said))
    return Report("recall", ("what", "by", "p50", "CPU p50", "more"), rows, METHOD)
