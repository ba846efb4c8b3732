"""Questions about a fold are answered between transactions, or refused; none is left to wait."""

import asyncio
from typing import Any

import pytest

from agents.engine.dealing import Member, ProcessorAssignor, member_of
from agents.engine.lookups import Lookups, Unanswered
from agents.history.live import open_to, url_of
from agents.settings import Settings

FOLD: Any = {"n": 3}


def test_all_that_wait_are_answered_with_the_offset() -> None:
    async def main() -> list[tuple[object, int]]:
        woken: list[int] = []
        lookups = Lookups(lambda: woken.append(1))
        asked = [asyncio.create_task(lookups.ask(lambda fold: fold["n"])) for _ in range(2)]
        await asyncio.sleep(0)
        assert lookups and len(woken) == 2
        gone = asked.pop()
        gone.cancel()
        await asyncio.sleep(0)
        await lookups.answer(FOLD, 41)
        assert not lookups
        return [await one for one in asked]

    assert asyncio.run(main()) == [(3, 41)]


def test_who_waits_hears_that_the_fold_is_gone_or_cant_be_looked_at() -> None:
    async def main() -> None:
        lookups = Lookups(lambda: None)
        asked = asyncio.create_task(lookups.ask(lambda fold: fold["n"]))
        await asyncio.sleep(0)
        lookups.refuse("it is taken anew")
        with pytest.raises(Unanswered, match="it is taken anew"):
            await asked
        bad, behind = (
            asyncio.create_task(lookups.ask(lambda fold, k=k: fold[k])) for k in ("m", "n")
        )
        await asyncio.sleep(0)
        await lookups.answer(FOLD, 41)
        with pytest.raises(KeyError):
            await bad
        assert await behind == (3, 41)

    asyncio.run(main())


def test_a_member_says_where_its_pages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessorAssignor, "runs", {"a": ["x", "y"]})
    monkeypatch.setattr(ProcessorAssignor, "keepers", {"a": "x"})
    monkeypatch.setattr(ProcessorAssignor, "url", "http://here:1")

    class Cluster:
        @staticmethod
        def partitions_for_topic(_: str) -> set[int]:
            return {0, 1}

    said = ProcessorAssignor.metadata(["a"])
    told = ProcessorAssignor.assign(Cluster(), {"m": said})["m"]
    member = member_of(said.encode(), told.encode())
    assert member.url == "http://here:1"
    assert member.dealt["a"]["x"] == member.dealt["a"]["y"] == [0, 1]
    assert member_of(b"", b"") == Member("", {})


@pytest.mark.parametrize(
    ("host", "port", "given", "url"),
    [
        ("127.0.0.1", 6066, "", "http://127.0.0.1:6066"),
        ("::1", 6066, "", "http://[::1]:6066"),
        ("10.0.0.3", 0, "", ""),
        ("0.0.0.0", 6066, "https://pod-3.soma", "https://pod-3.soma"),
    ],
)
def test_its_url_is_what_is_set_or_where_it_listens(
    host: str, port: int, given: str, url: str
) -> None:
    assert url_of(Settings(web_host=host, web_port=port, web_url=given)) == url
    everywhere = url_of(Settings(web_host="0.0.0.0"))
    assert "0.0.0.0" not in everywhere and everywhere.endswith(":6066")


@pytest.mark.parametrize(
    ("host", "token", "shown", "may"),
    [
        ("127.0.0.1", "", None, True), ("localhost", "", None, True), ("0.0.0.0", "", None, False),
        ("127.0.0.1", "s", None, False), ("127.0.0.1", "s", "Bearer t", False),
        ("0.0.0.0", "s", "Bearer s", True), ("pod-3", "", None, False),
    ],
)  # fmt: skip
def test_who_may_look(host: str, token: str, shown: str | None, may: bool) -> None:
    assert open_to(Settings(web_host=host, state_token=token), shown) is may
