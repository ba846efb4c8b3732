"""What hangs never takes the places of what is quick."""

import asyncio

import pytest

from agents.gateway import call_slots
from agents.gateway.call_slots import CallSlots


async def quick() -> str:
    return "quick"


def test_quick_calls_go_on_beside_as_many_hanging_ones_as_slow_ones_may_be() -> None:
    async def body() -> None:
        some = CallSlots(2, 10)
        never = asyncio.Event()
        hanging = [asyncio.create_task(some.run(never.wait, False)) for _ in range(10)]
        # Two at a time hang for QUICK_S each, then leave their places.
        async with asyncio.timeout(10 * call_slots.QUICK_S + 5.0):
            assert await some.run(quick, False) == "quick"
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    asyncio.run(body())


def test_suspects_take_no_quick_place_at_all() -> None:
    async def body() -> None:
        some = CallSlots(1, 3)
        never = asyncio.Event()
        hanging = [asyncio.create_task(some.run(never.wait, True)) for _ in range(9)]
        await asyncio.sleep(0)
        async with asyncio.timeout(0.2):  # at once, without waiting for QUICK_S
            assert await some.run(quick, False) == "quick"
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    asyncio.run(body())


def test_there_are_never_more_calls_than_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_slots, "QUICK_S", 0.001)
    most = now = 0

    async def call() -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.004)
        now -= 1

    async def body() -> None:
        some = CallSlots(3, 4)
        await asyncio.gather(*(some.run(call, k % 3 == 0) for k in range(60)))

    asyncio.run(body())
    assert now == 0 and 3 < most <= 7


def test_every_place_is_given_back_whatever_becomes_of_a_call() -> None:
    async def broken() -> None:
        raise ValueError("broken")

    async def body() -> None:
        some = CallSlots(1, 1)
        never = asyncio.Event()
        for suspect in (False, True):
            for _ in range(3):
                with pytest.raises(ValueError, match="broken"):
                    await some.run(broken, suspect)
                task = asyncio.create_task(some.run(never.wait, suspect))
                await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(5.0):
                assert await some.run(quick, suspect) == "quick"

    asyncio.run(body())


def test_cancelling_ends_the_call_too() -> None:
    ended = False

    async def call() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    async def body() -> None:
        task = asyncio.create_task(CallSlots(1, 1).run(call, True))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    asyncio.run(body())
    assert ended
