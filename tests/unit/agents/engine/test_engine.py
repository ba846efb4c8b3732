"""The engine as a whole, without a broker."""

import asyncio

import pytest

from agents.engine.engine import Engine
from agents.engine.registry import processors
from agents.settings import Settings

ENDS_S = 60.0  # on a machine that is busy; it takes an instant


def test_the_watch_ends_with_the_engine() -> None:
    """It asked on by threads that had ended, and a worker that was stopped ended with status 1."""

    async def run() -> None:
        settings = Settings(kafka_bootstrap="127.0.0.1:1")
        engine = Engine(settings, processors(["segmentation"]), 4)
        watching = asyncio.create_task(engine.watch())
        await asyncio.sleep(0)
        await engine.close()
        await asyncio.wait_for(watching, ENDS_S)

    asyncio.run(run())


def test_a_defect_of_the_watch_is_raised() -> None:
    async def run() -> None:
        engine = Engine(Settings(kafka_bootstrap="127.0.0.1:1"), processors(["segmentation"]), 4)
        engine._blocking.shutdown()
        try:
            with pytest.raises(RuntimeError, match="cannot schedule new futures"):
                await asyncio.wait_for(engine.watch(), ENDS_S)
        finally:
            await engine.close()

    asyncio.run(run())
