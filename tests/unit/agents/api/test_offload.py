"""Work on large bodies: in a thread, one piece of a tenant's in the queue."""

import asyncio
import gc
import threading
from collections.abc import Callable

import pytest

from agents.api.offload import LARGE_BYTES, Offload


def test_a_small_body_s_work_is_done_at_once_and_a_large_one_s_in_a_thread() -> None:
    async def seen() -> list[str]:
        offload = Offload()
        names = [
            await offload.do("a", size, lambda: threading.current_thread().name)
            for size in (LARGE_BYTES, LARGE_BYTES + 1)
        ]
        offload.close()
        return names

    assert asyncio.run(seen()) == [threading.current_thread().name, "large_0"]


def test_the_loop_goes_on_meanwhile() -> None:
    """The work ends by what the loop does while it is under way."""

    async def both() -> bool:
        offload, there = Offload(), threading.Event()
        asyncio.get_running_loop().call_soon(there.set)
        done = await offload.do("a", LARGE_BYTES + 1, lambda: there.wait(60.0))
        offload.close()
        return done

    assert asyncio.run(both())


def test_many_of_one_tenant_hold_another_up_for_one_piece_only() -> None:
    async def order() -> list[str]:
        offload, first, order = Offload(), threading.Event(), list[str]()

        def work(whose: str, wait: bool) -> Callable[[], None]:
            def one() -> None:
                assert not wait or first.wait(60.0)
                order.append(whose)

            return one

        asked = [("a", k == 0) for k in range(20)] + [("b", False)]
        all_of_them = [offload.do(who, LARGE_BYTES + 1, work(who, wait)) for who, wait in asked]
        together = asyncio.gather(*all_of_them)
        asyncio.get_running_loop().call_soon(first.set)  # after the first step of each
        await together
        offload.close()
        return order

    assert asyncio.run(order()).index("b") <= 2


def test_what_fails_is_raised_and_the_collector_works_again() -> None:
    def bad() -> None:
        assert not gc.isenabled()
        raise KeyError("bad")

    async def fails() -> None:
        offload = Offload()
        try:
            await offload.do("a", LARGE_BYTES + 1, bad)
        finally:
            offload.close()

    with pytest.raises(KeyError):
        asyncio.run(fails())
    assert gc.isenabled()
