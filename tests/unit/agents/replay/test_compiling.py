"""A job says that it compiles, waits for it, and ends it when it is to rest."""

import asyncio
from contextlib import aclosing

import pytest

from agents.engine.compiling import Compiling
from agents.replay import compiling
from agents.replay.compiling import compiled_first
from agents.replay.modes import JobFailedError


async def said(name: str, most: int = 1000) -> list[str]:
    found: list[str] = []
    async with aclosing(compiled_first(name)) as words:
        async for word in words:
            found.append(word)
            if len(found) >= most:
                break
    return found


def lacking(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(compiling, "missing", lambda _: list(names))


def test_nothing_is_said_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch)
    assert asyncio.run(said("counting")) == []


def test_it_is_said_and_ended_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "outbox")
    (word,) = asyncio.run(said("outbox", 1))
    assert word.startswith("compiling the kernels of outbox first, ") and "`soma warm`" in word


def test_when_it_is_done_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "counting")
    monkeypatch.setattr(compiling, "Compiling", lambda lacking, jobs: Compiling([], jobs))
    assert asyncio.run(said("counting"))[-1] == ""


def test_what_cant_be_compiled_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking(monkeypatch, "nothing")
    with pytest.raises(JobFailedError, match="compiling the kernels of nothing ended with"):
        asyncio.run(said("nothing"))
