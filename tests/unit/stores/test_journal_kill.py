"""A process killed by SIGKILL at any moment: while it appends, drains, rotates and packs."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stores import journal_folder as folders
from tests.unit.stores.journals import Outbox, drained

REPO = Path(__file__).parents[3]
KEYS = 8

# Writers of keys that each wait for the answer, a sink that is a file (taken over by the next
# process as a database would be), and clean-ups, all at once.
CHILD = """
import asyncio, os, sys
from pathlib import Path
from stores.journal import Journal, JournalEvent, Limits, Verdict

folder, sink_path, *starts = sys.argv[1:]

async def writer(journal, key, n):
    while True:
        payload = '"' + "x" * (n * 37 % 3000) + '"'
        await journal.append(JournalEvent("t", "a", key, payload, f"{key}-{n}"))
        os.write(1, f"{key} {n}\\n".encode())
        n += 1

async def drainer(journal, out):
    async def sink(events):
        for one in events:
            os.write(out, f"{one.key} {one.dedupe_key.split('-')[1]}\\n".encode())
        await asyncio.sleep(0.002)
        return [Verdict("drained")] * len(events)
    while True:
        await journal.drain(sink, batch=40)
        await journal.cleanup()
        await asyncio.sleep(0.01)

async def main():
    journal = Journal.open(Path(folder), Limits(file_bytes=96 << 10))
    out = os.open(sink_path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    os.write(1, b"open\\n")
    await asyncio.gather(
        drainer(journal, out), *(writer(journal, f"k{k}", int(n)) for k, n in enumerate(starts))
    )

asyncio.run(main())
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_every_acknowledged_event_survives_any_kill(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder, sink = tmp_path / "journal", tmp_path / "sink"
    acknowledged = dict.fromkeys((f"k{k}" for k in range(KEYS)), -1)
    for _ in range(4):
        starts = [str(last + 1) for last in acknowledged.values()]
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder), str(sink), *starts],
            cwd=REPO,
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"open\n", "the next one opens what the last one left"
        time.sleep(rng.uniform(0.0, 0.6))
        os.kill(child.pid, signal.SIGKILL)
        text = child.stdout.read().decode()
        child.wait()
        child.stdout.close()
        for line in text[: text.rfind("\n") + 1].splitlines():
            key, n = line.split()
            assert int(n) == acknowledged[key] + 1
            acknowledged[key] = int(n)
    rest = Outbox()
    drained(folder, rest)
    lines = sink.read_text()
    found = [line.split() for line in lines[: lines.rfind("\n") + 1].splitlines()]
    found += [key.split("-") for key in rest.keys()]  # noqa: SIM118 - not a dict's
    for key, last in acknowledged.items():
        once = list(dict.fromkeys(int(n) for k, n in found if k == key))
        assert once == list(range(len(once))), "in order, without a hole"
        assert len(once) > last, "and nothing acknowledged is missing"
    assert not folders.set_aside_files(folder)
    assert sum(acknowledged.values()) > 0
