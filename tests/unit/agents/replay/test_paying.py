"""A fold's thread and the event loop that has the budget: neither waits for ever for the other."""

import asyncio
import threading
from dataclasses import dataclass

import pytest

from agents.replay import paying
from agents.replay.paying import Paying, StoppedFoldError

GONE = "the event loop ended before it gave a turn to read 5 records"


@dataclass
class Fold:
    records: int = 5


async def never(wanted: int) -> int:
    await asyncio.Event().wait()
    return wanted


def test_what_was_read_is_paid_turn_by_turn_and_nothing_while_an_owner_waits() -> None:
    turns: list[int] = []

    async def take(wanted: int) -> int:
        turns.append(wanted)
        return min(2, wanted)

    async def fold() -> None:
        pay = Paying(take, threading.Event(), asyncio.get_running_loop())
        await asyncio.to_thread(pay, Fold())
        await asyncio.to_thread(pay, Fold())
        pay.free = True
        await asyncio.to_thread(pay, Fold(90))
        pay.free = False
        await asyncio.to_thread(pay, Fold(91))

    asyncio.run(fold())
    assert turns == [5, 3, 1, 1]


def test_a_loop_that_has_ended_is_said() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(StoppedFoldError, match=GONE):
        Paying(never, threading.Event(), loop)(Fold())


def test_a_loop_that_ends_while_it_is_asked_is_said() -> None:
    """It never runs, so nothing of what is asked is begun; and it ends: all waits are cancelled."""
    loop = asyncio.new_event_loop()
    threading.Timer(0.1, loop.close).start()
    with pytest.raises(StoppedFoldError, match=GONE):
        Paying(never, threading.Event(), loop)(Fold())

    ended: list[BaseException] = []

    def fold(pay: Paying) -> None:
        try:
            pay(Fold())
        except BaseException as error:
            ended.append(error)

    async def leave() -> threading.Thread:
        asked = asyncio.Event()

        async def take(wanted: int) -> int:
            asked.set()
            return await never(wanted)

        pay = Paying(take, threading.Event(), asyncio.get_running_loop())
        thread = threading.Thread(target=fold, args=(pay,), daemon=True)
        thread.start()
        await asked.wait()
        return thread

    asyncio.run(leave()).join(20)
    assert [(type(one), str(one)) for one in ended] == [(StoppedFoldError, GONE)]


def test_who_is_told_to_stop_or_gets_no_turn_in_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[int] = []

    async def take(wanted: int) -> int:
        try:
            return await never(wanted)
        except asyncio.CancelledError:
            cancelled.append(wanted)
            raise

    async def fold(stop: threading.Event) -> None:
        try:
            pay = Paying(take, stop, asyncio.get_running_loop())
            await asyncio.to_thread(pay, Fold())
        finally:
            await asyncio.sleep(0)  # what is cancelled hears of it in its turn

    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(StoppedFoldError):
        asyncio.run(fold(stop))
    monkeypatch.setattr(paying, "TURN_S", 0.1)
    with pytest.raises(TimeoutError, match=r"a turn to read 5 records didn't come within 0\.1 s"):
        asyncio.run(fold(threading.Event()))
    assert cancelled == [5, 5]
