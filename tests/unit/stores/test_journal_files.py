"""What happens to files: rotation, packing, retention, damage, a disk that is full."""

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stores import journal_folder as folders
from stores.journal import Journal, JournalDiskError, JournalEvent, JournalFullError, Limits
from stores.journal_writer import RESERVE
from tests.unit.stores.journals import Outbox, drained, event, with_journal

SMALL = Limits(max_bytes=16 << 20, file_bytes=64 << 10)
REPO = Path(__file__).parents[3]


def fill(folder: Path, count: int, size: int = 1000, first: int = 0) -> list[int]:
    async def use(journal: Journal) -> list[int]:
        seqs: list[int] = []
        for start in range(first, first + count, 20):
            these = range(start, min(start + 20, first + count))
            seqs += await journal.append_many([event(n, size=size) for n in these])
        return seqs

    return with_journal(folder, use, SMALL)


def test_files_rotate_by_size_and_drained_ones_are_packed(tmp_path: Path) -> None:
    seqs = fill(tmp_path, 300)
    numbers = sorted(folders.plain_files(tmp_path))
    assert len(numbers) > 3
    outbox = Outbox()

    async def use(journal: Journal) -> None:
        await journal.drain(outbox.sink)
        done = await journal.cleanup()
        assert done.packed == len(numbers) - 1, "all but the one that is written"
        page = [r.seq for k in range(0, 300, 50) for r in await journal.events(50, k)]
        assert page == seqs, "packed rows are listed like the others"
        assert [r.seq for r in await journal.events(5, 120, "drained")] == seqs[120:125]
        assert journal.gauges()[0] == {"pending": 0, "drained": 300, "failed": 0}

    with_journal(tmp_path, use, SMALL)
    assert sorted(folders.packed_files(tmp_path)) == numbers[:-1]
    assert outbox.keys() == [f"d{n}" for n in range(300)]
    assert fill(tmp_path, 1, first=300)[0] > seqs[-1], "numbers never come again"


def test_files_rotate_by_age(tmp_path: Path) -> None:
    now = [1000.0]

    async def use(journal: Journal) -> None:
        first = await journal.append(event(1))
        now[0] += 61.0
        await journal.append(event(2))  # still there: age is looked at after a commit
        third = await journal.append(event(3))
        assert third // 10**9 == first // 10**9 + 1

    with_journal(tmp_path, use, Limits(file_age_s=60.0), lambda: now[0])


def test_what_is_drained_leaves_when_its_time_is_over(tmp_path: Path) -> None:
    fill(tmp_path, 200)
    drained(tmp_path, Outbox())

    async def tidy(journal: Journal) -> int:
        return (await journal.cleanup()).removed

    assert with_journal(tmp_path, tidy, SMALL) == 0
    oldest, *others = folders.packed_files(tmp_path).values()
    old = time.time() - SMALL.retention_s - 5
    os.utime(oldest.path, (old, old))
    assert with_journal(tmp_path, tidy, SMALL) == 1
    assert [p.path for p in folders.packed_files(tmp_path).values()] == [p.path for p in others]


def test_what_is_drained_leaves_earlier_where_its_room_is_needed(tmp_path: Path) -> None:
    limits = Limits(max_bytes=RESERVE + (2 << 20), file_bytes=64 << 10)
    rows = 400

    async def use(journal: Journal) -> int:
        kept = 0
        while kept < rows:
            noise = [os.urandom(4000).hex() for _ in range(40)]  # packing hardly shrinks it
            these = [JournalEvent("t", "a", "k", f'"{x}"', x[:40]) for x in noise]
            kept += len(await journal.append_many(these))
            await journal.drain(Outbox().sink)
            await journal.cleanup()
        assert (await journal.stats())["bytes"] <= limits.max_bytes
        return kept

    assert with_journal(tmp_path, use, limits) == rows


def test_drained_rows_can_be_brought_in_again(tmp_path: Path) -> None:
    """For a database that was restored from an old backup."""
    seqs = fill(tmp_path, 120)
    drained(tmp_path, Outbox())
    restored = Outbox()

    async def use(journal: Journal) -> None:
        await journal.cleanup()
        one = await journal.replay(seqs[:3])
        assert (one.replayed, one.missing, one.not_failed) == ((), (), tuple(seqs[:3]))
        again = await journal.replay([*seqs[:3], seqs[-1], 5], drained=True)
        assert (again.replayed, again.missing) == ((*seqs[:3], seqs[-1]), (5,))
        assert journal.pending() == 4
        await journal.drain(restored.sink)
        await journal.cleanup()

    with_journal(tmp_path, use, SMALL)
    assert restored.keys() == ["d0", "d1", "d2", "d119"]


def test_refused_rows_are_kept_until_they_are_dropped_by_hand(tmp_path: Path) -> None:
    fill(tmp_path, 120)
    outbox = Outbox()
    outbox.bad = {"d0"}
    drained(tmp_path, outbox)

    async def use(journal: Journal) -> None:
        await journal.cleanup()
        failed = await journal.events(status="failed")
        assert [row.event.dedupe_key for row in failed] == ["d0"]
        others = [row.seq for row in await journal.events(status="drained")]
        assert await journal.forget_failed([failed[0].seq, *others, 77]) == 1
        assert journal.gauges()[0]["failed"] == 0

    with_journal(tmp_path, use, SMALL)


@pytest.mark.parametrize("damage", ["header", "middle", "short", "text"])
def test_a_damaged_file_is_set_aside_and_the_others_go_on(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    seqs = fill(tmp_path, 200)
    first, second, *_ = folders.plain_files(tmp_path).values()
    whole = second.read_bytes()
    second.write_bytes({
        "header": b"\xff" * 100 + whole[100:],
        "middle": whole[:8192] + os.urandom(16_384) + whole[24_576:],
        "short": whole[: len(whole) // 2],
        "text": b"not a database, whatever its name says\n" * 100,
    }[damage])  # fmt: skip
    outbox = Outbox()
    with caplog.at_level(logging.ERROR):
        drained(tmp_path, outbox)
    lost = {f"d{n}" for n, seq in enumerate(seqs) if seq // 10**9 == int(second.name[:8])}
    assert set(outbox.keys()) == {f"d{n}" for n in range(200)} - lost
    assert second.name in caplog.text
    assert folders.set_aside_files(tmp_path) == [f"{second.name}.corrupt-1"]
    assert fill(tmp_path, 1)[0] > max(seqs)


def test_a_newest_file_that_is_damaged_is_followed_by_another(tmp_path: Path) -> None:
    seqs = fill(tmp_path, 3)
    (path,) = folders.plain_files(tmp_path).values()
    path.write_bytes(b"\0" * 5000)
    new = fill(tmp_path, 2)
    assert new[0] // 10**9 == seqs[0] // 10**9 + 1


def test_an_empty_file_is_one_whose_maker_was_killed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "00000004.sqlite").touch(mode=0o600)
    (seq,) = fill(tmp_path, 1)
    assert seq // 10**9 == 4


def test_a_kill_while_packing_or_unpacking_leaves_one_whole_file(tmp_path: Path) -> None:
    fill(tmp_path, 120)
    drained(tmp_path, Outbox())
    number, path = next(iter(folders.plain_files(tmp_path).items()))
    (tmp_path / f"{number:08d}-9.sqlite.zst").write_bytes(b"half")  # renamed, original still there
    (tmp_path / f"{number:08d}-9.sqlite.zst.tmp").write_bytes(b"half")
    assert number not in folders.packed_files(tmp_path)

    async def use(journal: Journal) -> None:
        assert journal.gauges()[0]["drained"] == 120
        assert path.exists()

    with_journal(tmp_path, use, SMALL)
    assert not list(tmp_path.glob("*.tmp"))
    assert not folders.packed_files(tmp_path)


def test_a_damaged_packed_file_is_named_and_the_others_are_listed(tmp_path: Path) -> None:
    fill(tmp_path, 200)
    drained(tmp_path, Outbox())

    async def use(journal: Journal) -> int:
        await journal.cleanup()
        first = next(iter(folders.packed_files(tmp_path).values()))
        first.path.write_bytes(b"nothing like it")
        return len(await journal.events(500)) + first.rows

    assert with_journal(tmp_path, use, SMALL) == 200


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from stores.journal import Journal, JournalDiskError, JournalEvent
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    journal = Journal.open(Path(sys.argv[1]))
    kept = refused = 0
    for n in range(60):
        if n == 20:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, -1))
        if n == 40:
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
        try:
            await journal.append(JournalEvent("t", "a", "k", '"' + "x" * 20_000 + '"', f"d{n}"))
            print(n)
        except JournalDiskError:
            refused += 1
    assert refused, "the limit was felt"
    journal.close()

asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_is_a_named_error_and_nothing_acknowledged_is_lost(
    tmp_path: Path,
) -> None:
    """Writes that fail in the system itself (a limit on the size of files)."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "j")],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    acknowledged = {f"d{n}" for n in done.stdout.split()}
    assert {f"d{n}" for n in range(41, 60)} <= acknowledged, "it goes on once there is room"
    outbox = Outbox()
    drained(tmp_path / "j", outbox)
    assert acknowledged <= set(outbox.keys())


def test_a_folder_that_cant_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalDiskError, match="can't use"):
        Journal.open(tmp_path / "file" / "journal")


Step = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 40), st.integers(0, 3000)),
    st.tuples(st.sampled_from(["drain", "cleanup", "reopen", "refuse", "replay"])),
)


@given(steps=st.lists(Step, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_done_each_event_arrives_once_and_in_order(
    steps: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    limits = Limits(max_bytes=RESERVE + (8 << 20), file_bytes=32 << 10)
    outbox, count = Outbox(), 0
    refused: set[str] = set()

    async def run() -> int:
        journal, n = Journal.open(folder, limits), 0
        for what, *more in [*steps, ("drain",)]:
            if what == "append":
                batch = [
                    event(n + k, tenant="ab"[k % 2], size=int(more[1])) for k in range(more[0])
                ]
                try:
                    await journal.append_many(batch)
                    n += len(batch)
                except JournalFullError:
                    continue
            elif what == "drain":
                await journal.drain(outbox.sink, batch=7)
            elif what == "refuse":
                outbox.bad = {f"d{k}" for k in range(n, n + 3)}
                refused.update(outbox.bad)
            elif what == "replay":
                outbox.bad = set()
                seqs = [row.seq for row in await journal.events(status="failed", limit=100)]
                if seqs:
                    await journal.replay(seqs)
            elif what == "cleanup":
                await journal.cleanup()
            else:
                journal.close()
                journal = Journal.open(folder, limits)
            counts = journal.gauges()[0]
            assert sum(counts.values()) == n
            assert counts["pending"] == journal.pending()
        failed = journal.gauges()[0]["failed"]
        journal.close()
        return n - failed

    count = asyncio.run(run())
    assert len(outbox.taken) == count
    for tenant in "ab":
        in_order = [int(k[1:]) for t, k in outbox.taken if t == tenant and k not in refused]
        assert in_order == sorted(in_order)


def test_sqlite_is_as_we_need_it() -> None:
    assert sqlite3.threadsafety >= 1
    assert hasattr(sqlite3.Connection, "deserialize")
