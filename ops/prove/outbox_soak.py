"""The outbox for a long while at a steady rate: do tables and memory stay bounded?"""

import time
from pathlib import Path

import psutil

from ops.prove.outbox_run import Options, Proof, Report
from ops.prove.outbox_table import AWAY
from ops.stack import Stack

RETENTION_S = 30.0
SAMPLES = 20
GROWTH_MAX = 1.25  # from the middle third of the time to the last
BOUNDED = ("events MB", "event indexes MB", "queue MB", "queue indexes MB", "relay MB")
MIB = 1 << 20
SIZES = """
    SELECT c.relname AS name, pg_table_size(c.oid) AS heap, pg_indexes_size(c.oid) AS indexes,
           s.n_dead_tup AS dead, s.n_live_tup AS live, s.autovacuum_count AS vacuums
    FROM pg_class c JOIN pg_stat_user_tables s ON s.relid = c.oid
    WHERE c.oid IN ('outbox_events'::regclass, 'outbox_queue'::regclass)
"""
LAST = "SELECT last_value FROM outbox_events_id_seq"


def sample(proof: Proof, began: float) -> dict[str, float]:
    """Sizes now."""
    tables = {row["name"]: row for row in proof.table.rows(SIZES)}
    events, queue = tables["outbox_events"], tables["outbox_queue"]
    memory = [psutil.Process(one.process.pid).memory_info().rss for one in proof.fleet.crew]
    return {
        "s": round(time.monotonic() - began),
        "ids": float(proof.table.rows(LAST)[0]["last_value"]),
        "events MB": round(events["heap"] / MIB, 1),
        "event indexes MB": round(events["indexes"] / MIB, 1),
        "events": float(events["live"]),
        "dead events": float(events["dead"]),
        "queue MB": round(queue["heap"] / MIB, 1),
        "queue indexes MB": round(queue["indexes"] / MIB, 1),
        "dead queued": float(queue["dead"]),
        "vacuums": float(events["vacuums"] + queue["vacuums"]),
        "relay MB": round(max(memory) / MIB, 1),
    }


def unbounded(samples: list[dict[str, float]]) -> list[str]:
    """What was larger in the last third of the time than in the middle one, beyond GROWTH_MAX."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    found = []
    for what in BOUNDED:
        before, after = (max(one[what] for one in part) for part in (middle, last))
        # Below some MB, a page or a vacuum more or less means nothing.
        if after > max(GROWTH_MAX * before, before + 8.0):
            found.append(f"{what} grows: {before} in the middle third, {after} in the last")
    return found


def soak(seconds: float, seed: int, stack: Stack, folder: Path) -> Report:
    """Write at a steady rate, sample, drain and verify."""
    options = Options(
        seed, relays=1, writers=8, keys=2000, writer_pause=0.002, slow=0.002, aged=True
    )
    env = {"SOMA_OUTBOX__RETENTION_DAYS": f"{RETENTION_S / 86400:.8f}"}
    proof = Proof(options, stack, folder, env)
    samples: list[dict[str, float]] = []

    def body() -> None:
        began = time.monotonic()
        for number in range(SAMPLES):
            proof.tend(began + seconds * (number + 1) / SAMPLES - time.monotonic())
            try:
                samples.append(sample(proof, began))
            except AWAY as error:
                raise RuntimeError(f"no sample: {error!r}") from error

    report = proof.run(body)
    report.samples, report.unbounded = samples, unbounded(samples)
    return report


def table(samples: list[dict[str, float]]) -> list[str]:
    """The samples as lines of text."""
    names = list(samples[0])
    width = [max(len(name), 9) for name in names]
    lines = ["  ".join(name.rjust(w) for name, w in zip(names, width, strict=True))]
    for one in samples:
        cells = (f"{value:,.10g}" for value in one.values())
        lines.append("  ".join(cell.rjust(w) for cell, w in zip(cells, width, strict=True)))
    return lines
