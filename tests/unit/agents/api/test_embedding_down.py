"""A question in words while the provider of vectors is down: a named 503, and no other vector."""

import asyncio
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from agents.api.problems import Problem
from agents.api.recall_desk import ASKERS, RecallDesk
from agents.api.recall_models import SearchIn
from agents.api.recall_search import searched
from agents.settings import Settings
from tests.live.helpers import eventually
from tests.unit.agents.recall.embeddings import LIMIT_S, UNFIT, serving
from tests.unit.agents.recall.samples import Log
from tests.unit.agents.recall.test_remote import own


def desk_of(settings: Settings, registry: CollectorRegistry) -> RecallDesk:
    """One that has read all."""
    desk = RecallDesk(settings, registry)
    desk.replica.whole = True
    return desk


def test_it_is_told_and_memories_that_wait_are_counted(tmp_path: Path) -> None:
    with serving() as server:
        settings = Settings(kafka_bootstrap="127.0.0.1:1", home=tmp_path, recall=own(server))
        registry = CollectorRegistry()
        desk = desk_of(settings, registry)
        log = desk.replica.rows

        def ask(text: str) -> Problem:
            with pytest.raises(Problem) as raised:
                asyncio.run(searched(desk, "a", SearchIn(text=text)))
            assert "secret" not in str(raised.value.detail)
            return raised.value

        fed = Log(log.holding)
        fed.rows = log
        fed.memory("a", "m", payload='{"text": "hello"}')
        assert b"soma_recall_waiting 1.0" in generate_latest(registry)
        assert ask(UNFIT).status_code == 422
        server.status = 500
        down = ask("hello")
        assert (down.status_code, down.headers) == (503, {"Retry-After": "2"})
        assert "answers 500" in str(down.detail)
        server.status = 200
        assert desk.replica.embedder.work(log.of("a")) == 1
        assert b"soma_recall_waiting 0.0" in generate_latest(registry)
        found = asyncio.run(searched(desk, "a", SearchIn(text="hello")))
        assert [one.entry.id for one in found] == ["m"]
        desk.replica.stop()


def test_a_search_by_its_own_vector_never_waits_for_questions_in_words(tmp_path: Path) -> None:
    async def asked(desk: RecallDesk, held: threading.Event, calls: list[list[str]]) -> None:
        questions = [
            asyncio.create_task(searched(desk, "a", SearchIn(text="hello")))
            for _ in range(4 * ASKERS)
        ]
        await asyncio.to_thread(eventually, lambda: len(calls) == ASKERS, LIMIT_S, "they wait")
        async with asyncio.timeout(LIMIT_S):
            found = await searched(desk, "a", SearchIn(vector=[1.0, 0.0]))
        assert [one.entry.id for one in found] == ["m"] and len(calls) == ASKERS
        held.set()
        async with asyncio.timeout(LIMIT_S):
            assert await asyncio.gather(*questions) == [[]] * len(questions)

    with serving() as server:
        settings = Settings(kafka_bootstrap="127.0.0.1:1", home=tmp_path, recall=own(server))
        desk = desk_of(settings, CollectorRegistry())
        fed = Log(desk.replica.rows.holding)
        fed.rows = desk.replica.rows
        fed.memory("a", "m", [1.0, 0.0])
        server.held = threading.Event()
        asyncio.run(asked(desk, server.held, server.asked))
        desk.replica.stop()
