"""What the consumer in Faust's thread is asked, and doesn't answer."""

import asyncio

import pytest

from agents.engine.transport import _in_thread


def test_what_the_thread_doesnt_answer_is_named() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    said = "the thread of the group's consumer didn't answer a seek within 0.01 s"
    with pytest.raises(TimeoutError, match=said):
        asyncio.run(_in_thread(never(), "a seek", 0.01))
    assert asyncio.run(_in_thread(asyncio.sleep(0, 7), "a seek", 1.0)) == 7
