import asyncio
import stat
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stores import journal_writer
from stores.journal import (
    Journal,
    JournalClosedError,
    JournalDiskError,
    JournalEvent,
    JournalFullError,
    JournalLockedError,
    Limits,
    Verdict,
)
from tests.unit.stores.journals import Outbox, drained, event, with_journal

SMALL = Limits(max_bytes=6 << 20, file_bytes=64 << 10)


def test_what_is_appended_is_drained_once_in_order(tmp_path: Path) -> None:
    async def use(journal: Journal) -> list[int]:
        return [await journal.append(event(n)) for n in range(5)]

    seqs = with_journal(tmp_path / "j", use)
    assert seqs == sorted(set(seqs))
    outbox = Outbox()
    assert drained(tmp_path / "j", outbox).drained == 5
    assert outbox.keys() == [f"d{n}" for n in range(5)]
    assert drained(tmp_path / "j", outbox).drained == 0


def test_every_field_comes_back_as_it_was(tmp_path: Path) -> None:
    given = JournalEvent("t.x", "ä", "k\x00ey", '{"a":"\\u0000é"}', "d", {"h": "ü"}, 12.5)
    outbox = Outbox()

    async def use(journal: Journal) -> None:
        await journal.append(given)
        await journal.drain(outbox.sink)

    with_journal(tmp_path / "j", use)
    assert list(outbox.taken.values()) == [given]


def test_concurrent_appends_get_their_own_seqs_and_share_commits(tmp_path: Path) -> None:
    async def use(journal: Journal) -> list[list[int]]:
        one = [journal.append_many([event(n), event(n + 1000)]) for n in range(300)]
        return await asyncio.gather(*one)

    pairs = with_journal(tmp_path / "j", use)
    assert all(b == a + 1 for a, b in pairs), "a batch is committed together"
    assert len({seq for pair in pairs for seq in pair}) == 600
    outbox = Outbox()
    drained(tmp_path / "j", outbox)
    assert len(outbox.taken) == 600


def test_it_counts_what_waits_by_tenant(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        await journal.append_many([event(1, "a"), event(2, "b"), event(3, "a")])
        assert (journal.pending(), journal.pending("a"), journal.pending("c")) == (3, 2, 0)
        outbox = Outbox()
        outbox.later = {"a"}
        done = await journal.drain(outbox.sink)
        assert (done.drained, done.later) == (1, {"a"})
        assert (journal.pending("a"), journal.pending("b")) == (2, 0)

    with_journal(tmp_path / "j", use)
    # And so after it was opened anew.
    with_journal(tmp_path / "j", count_a)


async def count_a(journal: Journal) -> None:
    assert (journal.pending(), journal.pending("a")) == (2, 2)


def test_a_refused_row_is_kept_and_holds_up_nobody(tmp_path: Path) -> None:
    outbox = Outbox()
    outbox.bad = {"d1"}

    async def use(journal: Journal) -> None:
        seqs = await journal.append_many([event(n) for n in range(4)])
        done = await journal.drain(outbox.sink)
        assert (done.drained, done.failed, journal.pending()) == (3, 1, 0)
        (row,) = await journal.events(status="failed")
        assert (row.seq, row.error) == (seqs[1], "it is bad")
        outbox.bad = set()
        again = await journal.replay([seqs[0], seqs[1], 77])
        assert (again.replayed, again.missing) == ((seqs[1],), (77,))
        assert again.not_failed == (seqs[0],)
        assert (await journal.drain(outbox.sink)).drained == 1
        assert journal.gauges()[0] == {"pending": 0, "drained": 4, "failed": 0}

    with_journal(tmp_path / "j", use)
    assert outbox.keys() == ["d0", "d2", "d3", "d1"]


def test_a_sink_that_fails_leaves_all_in_place(tmp_path: Path) -> None:
    async def away(events: Sequence[JournalEvent]) -> list[Verdict]:
        raise ConnectionError("away")

    async def use(journal: Journal) -> None:
        await journal.append_many([event(n) for n in range(3)])
        with pytest.raises(ConnectionError):
            await journal.drain(away)
        assert journal.pending() == 3

    with_journal(tmp_path / "j", use)


def test_a_process_that_died_between_insert_and_mark_brings_rows_again(tmp_path: Path) -> None:
    outbox = Outbox()

    async def dies(events: Sequence[JournalEvent]) -> list[Verdict]:
        await outbox.sink(events)
        raise SystemError("killed here")

    async def use(journal: Journal) -> None:
        await journal.append_many([event(n) for n in range(3)])
        with pytest.raises(SystemError):
            await journal.drain(dies)

    with_journal(tmp_path / "j", use)
    assert drained(tmp_path / "j", outbox).drained == 3
    assert outbox.keys() == ["d0", "d1", "d2"]


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        with pytest.raises(JournalLockedError, match=r"belongs to the process \d+"):
            Journal.open(tmp_path / "j")

    with_journal(tmp_path / "j", use)
    with_journal(tmp_path / "j", count_none)


async def count_none(journal: Journal) -> None:
    assert journal.pending() == 0


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        await journal.append(event(1))
        assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o700
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "j").iterdir()}
        assert len(modes) == 4, "the lock, the file, its log and the log's index"
        assert set(modes.values()) == {0o600}

    with_journal(tmp_path / "j", use)


def test_above_its_limit_it_accepts_nothing_and_room_comes_by_draining(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        kept = 0
        with pytest.raises(JournalFullError, match="may hold 6,291,456"):
            while True:
                await journal.append(event(kept, size=200_000))
                kept += 1
        assert (await journal.stats())["bytes"] <= SMALL.max_bytes
        outbox = Outbox()
        await journal.drain(outbox.sink)
        assert len(outbox.taken) == kept, "what was accepted is there, and what was refused isn't"
        await journal.cleanup()
        await journal.append(event(kept))

    with_journal(tmp_path / "j", use, SMALL)


def test_odd_events_and_questions_are_refused(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        with pytest.raises(ValueError, match="at most 100 bytes, this one"):
            await journal.append(event(1, size=200))
        with pytest.raises(ValueError, match="surrogates not allowed"):
            await journal.append(JournalEvent("t", "a", "k", '"\ud800"', "d"))
        with pytest.raises(ValueError, match="1-500"):
            await journal.events(501)
        with pytest.raises(ValueError, match="1-1000"):
            await journal.replay([])
        assert journal.pending() == 0

    with_journal(tmp_path / "j", use, Limits(event_bytes=100))


def test_a_closed_journal_accepts_nothing(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        journal.close()
        with pytest.raises(JournalClosedError):
            await journal.append(event(1))

    with_journal(tmp_path / "j", use)


def test_a_defect_of_the_writer_is_told_to_all_who_wait_and_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody may wait for ever, and nothing may be accepted that nobody writes."""

    async def use(journal: Journal) -> None:
        await journal.append(event(1))
        monkeypatch.setattr(journal._writer, "_rotate_if_due", lambda: 1 / 0)
        with pytest.raises((ZeroDivisionError, JournalClosedError)):
            for n in range(2, 1000):
                await journal.append(event(n))
        with pytest.raises(JournalClosedError):
            await journal.append(event(1000))

    with_journal(tmp_path / "j", use)
    outbox = Outbox()
    drained(tmp_path / "j", outbox)
    assert outbox.keys()[0] == "d1"


def test_what_nobody_waits_for_any_more_is_left_and_the_journal_goes_on(tmp_path: Path) -> None:
    async def use(journal: Journal) -> tuple[int, list[int]]:
        go_on, looked = threading.Event(), list[int]()
        journal._writer.work(lambda: go_on.wait(20))
        gone = asyncio.wrap_future(journal._writer.work(lambda: looked.append(1)))
        gone.cancel()
        go_on.set()
        return await journal.append(event(1)), looked

    seq, looked = with_journal(tmp_path / "j", use)
    assert seq > 0 and looked == []


def test_a_disk_that_hangs_is_said_and_the_folder_stays_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "WORK_S", 0.1)
    journal, go_on = Journal.open(tmp_path / "j"), threading.Event()
    hanging = journal._writer.work(lambda: go_on.wait(20))
    with pytest.raises(JournalDiskError, match=r"didn't come to it within 0\.1 s"):
        asyncio.run(journal.cleanup())
    with pytest.raises(JournalDiskError, match=r"weren't written within 0\.1 s"):
        journal.close()
    with pytest.raises(JournalLockedError):
        Journal.open(tmp_path / "j")
    go_on.set()
    assert hanging.result(20)
    journal._writer.close()
    journal._lock.release()
