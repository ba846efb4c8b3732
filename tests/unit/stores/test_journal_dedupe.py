"""A dedupe key means one event, in the journal as in the outbox."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from stores.journal import Journal, JournalEvent, Kept, Limits, Verdict
from tests.unit.stores.journals import Outbox, event, with_journal

ONE = JournalEvent("memory.events", "a", "k", '{"ts":1,"x":1}', "d")
OTHER = replace(ONE, payload='{"ts":1,"x":2}')


def test_the_same_again_adds_no_row_and_something_else_is_told(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        (first,) = (await journal.keep([ONE])).kept
        assert first == Kept(first.seq)
        again = replace(ONE, payload='{"x": 1.0, "ts": 1}', headers={"traceparent": "t"})
        assert (await journal.keep([again])).kept == [Kept(first.seq, duplicate=True)]
        for other in (
            OTHER, replace(ONE, topic="t"), replace(ONE, key="z"), replace(ONE, headers={"h": "1"})
        ):  # fmt: skip
            assert (await journal.keep([other])).kept == [Kept(first.seq, True, True)]
        assert not (await journal.keep([replace(OTHER, tenant="b")])).kept[0].duplicate
        assert (journal.pending(), journal.pending("a")) == (2, 1)
        with pytest.raises(ValueError, match="something else"):
            await journal.append(OTHER)

    with_journal(tmp_path / "j", use)
    with_journal(tmp_path / "j", known_still)


async def known_still(journal: Journal) -> None:
    """After it was opened anew."""
    assert (await journal.keep([OTHER])).kept[0].differs
    assert journal.pending() == 2


def test_what_differs_refuses_all_that_came_with_it(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        twice = await journal.keep([ONE, replace(ONE, dedupe_key="e"), OTHER])
        assert [one.differs for one in twice.kept] == [False, False, True]
        assert journal.pending() == 0
        alike = await journal.keep([ONE, ONE])
        assert [one.duplicate for one in alike.kept] == [False, True]
        assert journal.pending() == 1

    with_journal(tmp_path / "j", use)


def test_of_those_who_come_at_once_one_is_first(tmp_path: Path) -> None:
    """They share a commit; the events of others in it are kept."""

    async def use(journal: Journal) -> None:
        same = [journal.keep([replace(ONE, payload=f'{{"n":{n % 2}}}')]) for n in range(50)]
        rest = [journal.keep([event(n)]) for n in range(50)]
        kept = [one.kept[0] for one in await asyncio.gather(*same, *rest)]
        assert [one.duplicate for one in kept[:50]] == [False] + [True] * 49
        assert [one.differs for one in kept[:50]] == [bool(n % 2) for n in range(50)]
        assert not any(one.duplicate for one in kept[50:])
        assert journal.pending() == 51
        outbox = Outbox()
        assert (await journal.drain(outbox.sink)).drained == 51

    with_journal(tmp_path / "j", use)


def test_a_field_that_we_stamped_doesnt_count(tmp_path: Path) -> None:
    async def use(journal: Journal) -> None:
        await journal.keep([replace(ONE, but_for="ts")])
        later = replace(ONE, payload='{"ts":2,"x":1}')
        assert (await journal.keep([later])).kept[0].differs
        (kept,) = (await journal.keep([replace(later, but_for="ts")])).kept
        assert kept.duplicate and not kept.differs
        outbox = Outbox()
        await journal.drain(outbox.sink)
        (drained,) = outbox.taken.values()
        assert drained.but_for == "ts"

    with_journal(tmp_path / "j", use)


def test_what_is_drained_or_refused_isnt_kept_from_coming_again(tmp_path: Path) -> None:
    """The outbox must say what it has; but another content it would refuse."""

    async def use(journal: Journal) -> None:
        outbox = Outbox()
        outbox.bad = {"bad"}
        bad = replace(ONE, dedupe_key="bad")
        await journal.keep([ONE, bad])
        await journal.drain(outbox.sink)
        assert (await journal.keep([OTHER])).kept[0].differs
        assert [one.duplicate for one in (await journal.keep([ONE, bad])).kept] == [False, False]
        assert not (await journal.keep([replace(bad, dedupe_key="x", payload="3")])).kept[0].differs
        assert journal.pending() == 3

    with_journal(tmp_path / "j", use)


def test_a_batch_is_all_new_or_all_known(tmp_path: Path) -> None:
    three = [replace(ONE, dedupe_key=f"b{n}") for n in range(3)]

    async def use(journal: Journal) -> None:
        assert (await journal.keep(three[:2], [0, 1], "b2")).other is None
        assert (await journal.keep(three, [0, 1, 2], "b3")).other is not None
        assert journal.pending() == 2
        again = await journal.keep(three[:2], [0, 1], "b2")
        assert again.other is None and all(one.duplicate for one in again.kept)
        assert (await journal.keep(three[:1], [0], "b1")).other is not None
        assert journal.pending() == 2
        with pytest.raises(ConnectionError):
            await journal.drain(first_only, batch=1)
        assert journal.pending() == 1
        half = await journal.keep(three[:2], [0, 1], "b2")
        assert half.other is None, "what is drained is known as well"

    with_journal(tmp_path / "j", use)


async def first_only(events: Sequence[JournalEvent]) -> list[Verdict]:
    if events[0].dedupe_key != "b0":
        raise ConnectionError("away")
    return [Verdict("drained")]


def test_it_looks_through_all_files(tmp_path: Path) -> None:
    small = Limits(file_bytes=64 << 10)

    async def use(journal: Journal) -> None:
        await journal.keep([ONE])
        for n in range(8):
            await journal.keep([event(n, size=40_000)])
        assert (await journal.stats())["files"] > 1
        assert (await journal.keep([ONE])).kept[0].duplicate

    with_journal(tmp_path / "j", use, small)


def test_a_file_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    with_journal(folder, keep_one)
    with closing(sqlite3.connect(folder / "00000001.sqlite")) as old:
        old.executescript(
            "DROP INDEX events_keys; ALTER TABLE events DROP COLUMN but_for;"
            " PRAGMA user_version = 1;"
        )

    async def use(journal: Journal) -> None:
        assert (await journal.keep([ONE])).kept[0].duplicate
        assert len(await journal.events()) == 1
        outbox = Outbox()
        assert (await journal.drain(outbox.sink)).drained == 1

    with_journal(folder, use)


async def keep_one(journal: Journal) -> None:
    await journal.keep([ONE])
