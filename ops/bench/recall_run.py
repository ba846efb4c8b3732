"""Measures recall's search beside faiss in one process, in turns; prints one JSON object.

Run by `soma bench recall` in a Python that has faiss (`.venv-bench`); NumPy and numba are all that
it needs besides. Both sides use one thread.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from agents.recall import law
from agents.recall.entry import Entry, Filters
from agents.recall.importance import Scale
from agents.recall.shelf import Law, Shelf
from agents.recall.vectors import BITS, EXACT, vectors

D, K = 384, 10
CHUNK = 20_000
FRACTIONS = (0.1, 0.3, 0.5, 0.7)  # of what it can do
ALL, SCALE = Filters(), Scale()


def rows_of(n: int, seed: int) -> Any:
    """Unit vectors (n, D) without any pattern, float32."""
    random, found = np.random.default_rng(seed), np.empty((n, D), np.float32)
    for at in range(0, n, CHUNK):
        part = random.standard_normal((min(CHUNK, n - at), D), np.float32)
        found[at : at + CHUNK] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return found


def shelf_of(rows: Any, bits: int, prefix: str = "") -> Shelf:
    """They as memories; at 32 bits the shelf has the array itself."""
    entries = [
        Entry(f"{prefix}{k:07}", "", 1, "episodic", None, 0, 0, 0, 0, {}, 1, "", "{}", "")
        for k in range(len(rows))
    ]
    shelf, planes = Shelf(D, "", bits, Law()), {"rows": rows}
    if bits != EXACT:
        kept = vectors(D, bits)
        kept.grow(len(rows))
        for at in range(0, len(rows), CHUNK):
            part = rows[at : at + CHUNK]
            kept.put(slice(at, at + len(part)), part)
        planes = kept.planes()
    shelf.restore(entries, planes, [0] * len(rows), SCALE)
    return shelf


def brute(rows: Any, query: Any) -> list[int]:
    """The K best by float64, through all rows."""
    sims = np.concatenate(
        [rows[at : at + CHUNK].astype(np.float64) @ query for at in range(0, len(rows), CHUNK)]
    )
    return [int(k) for k in np.lexsort((np.arange(len(sims)), -sims))[:K]]


def ids(shelf: Shelf, query: Any) -> list[int]:
    return [int(one.entry.id) for one in shelf.search(query, K, ALL, 0, SCALE, None)]


class Times:
    """Of one side's calls, in milliseconds: on the clock, and of this thread on a CPU."""

    def __init__(self) -> None:
        self._wall: list[float] = []
        self._cpu: list[float] = []

    def take(self, work: Callable[[], object]) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        work()
        self._wall.append((time.perf_counter() - wall) * 1000)
        self._cpu.append((time.thread_time() - cpu) * 1000)

    @property
    def medians(self) -> dict[str, float]:
        return {"p50_ms": median(self._wall), "cpu_ms": median(self._cpu)}


def beside_faiss(n: int, bits: tuple[int, ...], queries: int, checked: int) -> list[dict[str, Any]]:
    """p50 of each in turns, query by query; recall@10 against float64."""
    import faiss  # type: ignore[import-not-found]

    faiss.omp_set_num_threads(1)
    rows = rows_of(n, 1)
    flat = faiss.IndexFlatIP(D)
    flat.add(rows)
    shelves = {one: shelf_of(rows, one) for one in bits}
    asked = [law.unit(one) for one in np.random.default_rng(2).standard_normal((queries, D))]
    times = {name: Times() for name in (0, *bits)}
    for query in asked[:3]:  # the first call of each compiles, or touches its memory
        flat.search(query[None].astype(np.float32), K)
        for shelf in shelves.values():
            ids(shelf, query)
    for query in asked:
        single = query[None].astype(np.float32)
        times[0].take(partial(flat.search, single, K))
        for one, shelf in shelves.items():
            times[one].take(partial(ids, shelf, query))
    right = [brute(rows, query) for query in asked[:checked]]
    hits = {one: [ids(shelf, query) for query in asked[:checked]] for one, shelf in shelves.items()}
    found: list[dict[str, Any]] = [{"n": n, "name": "faiss IndexFlatIP", **times[0].medians}]
    for one, shelf in shelves.items():
        same = [len({*a} & {*b}) / K for a, b in zip(hits[one], right, strict=True)]
        found.append(
            {
                "n": n, "name": f"{one} bits", **times[one].medians,
                "recall": float(np.mean(same)), "same_ids": hits[one] == right,
                "checked": checked, "mb": shelf.vectors.nbytes / 2**20,
            }
        )  # fmt: skip
    return found


def open_loop(tenants: int, each: int, seconds: float) -> list[dict[str, Any]]:
    """Searches at a fixed rate over tenants in turn: from when one was due to its answer."""
    shelves = [shelf_of(rows_of(each, 100 + k), EXACT) for k in range(tenants)]
    asked = [law.unit(one) for one in np.random.default_rng(3).standard_normal((512, D))]

    def one(k: int) -> None:
        ids(shelves[k % tenants], asked[k % len(asked)])

    times = Times()
    for k in range(2000):
        times.take(partial(one, k))
    service = times.medians["p50_ms"]
    found = []
    for part in FRACTIONS:
        gap = service / part / 1000
        late, begin = [], time.perf_counter() + gap
        for k in range(int(seconds / gap)):
            due = begin + k * gap
            while time.perf_counter() < due:
                pass  # a sleep is longer than a search
            one(k)
            late.append((time.perf_counter() - due) * 1000)
        p50, p99 = np.percentile(late, [50, 99])
        found.append(
            {"load": part, "service_ms": service, "p50_ms": float(p50), "p99_ms": float(p99),
             "searches": len(late)}
        )  # fmt: skip
    return found


def foreign(tenants: int, each: int, searches: int) -> dict[str, Any]:
    """Hits of other tenants than the one that asks."""
    shelves = [shelf_of(rows_of(each, 500 + k), EXACT, f"{k:03}") for k in range(tenants)]
    random, wrong, hits = np.random.default_rng(4), 0, 0
    for k in range(searches):
        own = f"{k % tenants:03}"
        query = law.unit(random.standard_normal(D))
        for one in shelves[k % tenants].search(query, K, ALL, 0, SCALE, None):
            hits += 1
            wrong += not one.entry.id.startswith(own)
    return {"tenants": tenants, "each": each, "searches": searches, "hits": hits, "foreign": wrong}


def run(asked: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each part that is asked for, and what it found."""
    if "exact" in asked["parts"]:
        yield "exact", beside_faiss(asked["rows"], (EXACT,), asked["queries"], asked["queries"])
    if "large" in asked["parts"]:
        yield "large", beside_faiss(asked["large"], BITS, asked["queries"], asked["checked"])
    if "open" in asked["parts"]:
        yield "open", open_loop(asked["tenants"], asked["each"], asked["seconds"])
    if "foreign" in asked["parts"]:
        yield "foreign", foreign(asked["tenants"], asked["each"] * 10, asked["searches"])


if __name__ == "__main__":
    print(json.dumps(dict(run(json.loads(sys.argv[1])))))
