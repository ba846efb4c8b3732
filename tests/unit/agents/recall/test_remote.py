"""Vectors by HTTP, against a real server: batches, outages, what is refused, who waits."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from agents.recall import breaker
from agents.recall.embedder import Embedder
from agents.recall.embedding import HashedNgrams, NotAsked, ProviderDown, UnfitText
from agents.recall.entry import Filters
from agents.recall.memories import DimensionError, Holding, Memories
from agents.recall.pace import AGAIN_S
from agents.recall.remote import PLAIN, HttpProvider, provider_of
from agents.recall.replica import holding_of
from agents.recall.shelf import Law
from agents.recall.snapshot import RefusedError, Taken, load, save
from agents.settings import Settings, SettingsError
from agents.settings.groups import RecallSettings
from tests.live.helpers import eventually
from tests.unit.agents.recall.embeddings import SECRET, UNFIT, EmbeddingServer, serving
from tests.unit.agents.recall.samples import Log

DIMENSION, NOW, ALL = 64, 10**15, Filters()


def own(server: EmbeddingServer, **more: Any) -> RecallSettings:
    given = {
        "provider": "http", "embedding_url": server.url, "embedding_model": "small",
        "dimension": DIMENSION, "embedding_token": SecretStr("t"), "embedding_timeout_s": 20.0,
    }  # fmt: skip
    return RecallSettings.model_validate(given | more)


@contextmanager
def provided(**more: Any) -> Iterator[tuple[EmbeddingServer, HttpProvider]]:
    with serving(DIMENSION) as server:
        provider = provider_of(own(server, **more))
        try:
            yield server, provider
        finally:
            provider.close()


def log_of(provider: HttpProvider, n: int, **more: str) -> tuple[Log, Memories]:
    """A tenant with n memories of texts, and what a recall node holds of it."""
    log = Log(Holding(Law(), 32, provider))
    for k in range(n):
        log.memory("a", f"m{k}", payload=f'{{"text": "thing number {k}"}}', **more)
    return log, log.rows.of("a")


def test_texts_go_in_batches_and_come_back_in_their_order_as_unit_vectors() -> None:
    with provided(embedding_batch=4) as (server, provider):
        texts = [f"text {k}" for k in range(10)]
        found = provider.embed_all(texts)
        assert [len(one) for one in server.asked] == [4, 4, 2]
        assert server.told[0] == {"model": "small", "authorization": "Bearer t"}
        for text, vector in zip(texts, found, strict=True):
            assert np.allclose(vector, HashedNgrams(DIMENSION).embed(text), atol=1e-12)
        assert len(provider.embed("x" * 50_000)) == DIMENSION and len(server.asked[-1][0]) == 32_768
        assert provider.revision == "small@1/64"


@pytest.mark.parametrize(
    ("status", "raw", "said"),
    [
        (500, b"", "answers 500"), (401, b"", "401"), (429, b"", "429"), (302, b"", "302"),
        (200, b"<html>", "no answer of"), (200, b'{"data": []}', "no answer of"),
        (200, b'{"data": [{"index": 0, "embedding": [1, 2]}]}', "64 are set"),
        (200, b'{"data": [{"index": 0, "embedding": "x"}]}', "no answer of"),
        (200, b'{"data": [{"index": 0, "embedding": [' + b"NaN," * 63 + b"1]}]}", "no answer of"),
        (200, b'{"data": [{"index": 0, "embedding": [' + b"9" * 5000 + b"]}]}", "ValueError"),
        (200, b'{"data": [{"index": 0, "embedding": [' + b"9" * 400 + b"]}]}", "OverflowError"),
        (200, b"[" * 60_000, "RecursionError"), (200, b" " * 100_000, "TooLongError"),
        (400, b"", "answers 400"), (422, b"", "answers 422"),
    ],
)  # fmt: skip
def test_what_is_no_vector_is_never_taken_for_one(status: int, raw: bytes, said: str) -> None:
    with provided() as (server, provider):
        log, memories = log_of(provider, 2)
        server.status, server.raw = status, raw
        with pytest.raises(ProviderDown, match=said):
            provider.embed("text")
        with pytest.raises(ProviderDown, match=said):
            Embedder(lambda: log.rows.tenants, provider).work(memories)
        assert len(memories.waiting) == 2 and not memories.unusable  # none is given up


def test_a_server_that_fails_isnt_asked_for_a_while_and_nobody_there_is_said() -> None:
    with provided() as (server, provider):
        server.status = 500
        for _ in range(breaker.FAILURES):
            with pytest.raises(ProviderDown, match="answers 500"):
                provider.embed("text")
        for _ in range(5):
            with pytest.raises(NotAsked, match="answers 500"):
                provider.embed("text")
        assert server.asked == [["text"], [PLAIN]] * breaker.FAILURES and provider.rest_s() > 0
    with serving() as server:
        gone = provider_of(own(server))
    with pytest.raises(ProviderDown, match=r"^ConnectError$"):
        gone.embed("text")
    gone.close()
    with pytest.raises(ProviderDown):
        gone.embed("text")


@pytest.mark.parametrize("what", ["headers", "body"])
def test_an_answer_that_never_ends_is_given_up(what: str) -> None:
    with provided(embedding_timeout_s=0.2) as (server, provider):
        server.drips = what
        with pytest.raises(ProviderDown, match=r"^TimeoutError$"):
            provider.embed("text")


def test_closing_ends_the_calls_that_wait() -> None:
    with provided(embedding_timeout_s=300.0) as (server, provider):
        server.held = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(provider.embed, "text")
            eventually(lambda: server.asked, 30.0, "it is asked")
            provider.close()
            with pytest.raises(ProviderDown):
                asked.result(30.0)
        server.held.set()


def test_what_the_server_says_is_repeated_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "agents")
    with provided() as (server, provider):
        log, memories = log_of(provider, 1)
        log.memory("a", "bad", payload=f'{{"text": "{UNFIT}"}}')
        embedder, said = Embedder(lambda: log.rows.tenants, provider), ""
        for _ in range(3):
            embedder.work(memories)
        answers = [(200, SECRET), (400, SECRET), (500, SECRET), (401, SECRET)]
        answers.append((200, f'{{"data": [{{"index": 0, "embedding": ["{SECRET}"]}}]}}'))
        for status, raw in answers:
            server.status, server.raw = status, raw.encode()
            with pytest.raises(ProviderDown) as raised:
                provider.embed("text")
            error: BaseException | None = raised.value
            while error is not None:
                said += str(error)
                error = error.__cause__
        server.status, server.raw = 200, b""
        assert memories.unusable == 1 and "the memory bad has no vector" in caplog.text
    assert "secret" not in said + caplog.text + embedder.why


def test_half_of_a_character_is_no_reason_to_fail() -> None:
    with provided() as (server, provider):
        assert np.allclose(provider.embed("a\ud800b"), provider.embed("a?b"))
        assert server.asked == [["a?b"], ["a?b"]]


def test_long_texts_and_those_that_break_the_server_stand_in_nobody_s_way() -> None:
    """The circuit stays closed: a question is answered at any time."""
    now = 0.0
    with provided() as (server, provider):
        log, _ = log_of(provider, 0)
        for k in range(30):
            log.memory("a", f"long{k}", payload=f'{{"text": "{"long " * 100}"}}')
        for k in range(3):
            log.memory("a", f"poison{k}", payload='{"text": "poison"}')
        for tenant in "bc":
            for k in range(40):
                log.memory(tenant, f"m{k}", payload='{"text": "short"}')
        server.breaks, server.most = lambda text: "poison" in text, 2_000
        embedder = Embedder(lambda: log.rows.tenants, provider, lambda: now)
        for _ in range(40):
            embedder.turn()
            assert len(provider.embed("question")) == DIMENSION and provider.rest_s() == 0
        waiting = {name: set(one.waiting) for name, one in log.rows.tenants.items()}
        assert waiting == {"a": {"poison0", "poison1", "poison2"}, "b": set(), "c": set()}
        asked = len(server.asked)
        assert embedder.turn() == 0 and len(server.asked) == asked  # they rest
        now += AGAIN_S
        assert [embedder.turn() for _ in range(4)] == [1, 1, 1, 0]  # each alone
        now += AGAIN_S
        assert embedder.turn() == 0  # for longer each time
        now += AGAIN_S
        server.breaks = lambda text: False
        assert [embedder.turn() for _ in range(4)] == [1, 1, 1, 0]
        assert not log.rows.of("a").waiting and not log.rows.of("a").unusable


def test_behind_a_failure_other_tenants_and_memories_have_their_turn() -> None:
    """While even a plain text fails with what was asked before it, as of a server that fell."""
    with provided() as (server, provider):
        log, memories = log_of(provider, 3)
        for tenant in "bc":
            log.memory(tenant, "m", payload='{"text": "short"}')
        embedder = Embedder(lambda: log.rows.tenants, provider)
        server.status = 500
        for first in (["thing number 0", "thing number 1", "thing number 2"], ["short"]):
            with pytest.raises(ProviderDown):
                embedder.turn()
            assert server.asked[-2:] == [first, [PLAIN]]
        server.status = 200
        del server.asked[:]
        assert embedder.turn() == 4  # c first, and half as many of a
        assert server.asked == [["short"], ["thing number 0", "thing number 1"], ["short"]]
    with provided() as (server, provider):
        log, memories = log_of(provider, 3)
        embedder = Embedder(lambda: log.rows.tenants, provider)
        server.status = 500
        for ids in (["m0", "m1", "m2"], ["m1", "m2", "m0"], ["m2", "m0", "m1"]):
            with pytest.raises(ProviderDown):
                embedder.turn()
            assert list(memories.waiting) == ids
        with pytest.raises(NotAsked):
            embedder.turn()
        assert list(memories.waiting) == ids


def test_the_batch_grows_again_after_a_success() -> None:
    with provided() as (server, provider):
        log, memories = log_of(provider, 200)
        embedder = Embedder(lambda: log.rows.tenants, provider)
        server.status = 500
        with pytest.raises(ProviderDown):
            embedder.turn()
        server.status = 200
        del server.asked[:]
        while memories.waiting:
            embedder.turn()
        assert [len(one) for one in server.asked] == [32, 33, 34, 35, 36, 30]


def test_memories_wait_while_it_is_down_and_are_found_when_it_is_back() -> None:
    with provided() as (server, provider):
        log, memories = log_of(provider, 5)
        embedder = Embedder(lambda: log.rows.tenants, provider)
        assert len(memories) == len(memories.waiting) == 5 and not memories.shelves
        server.status = 500
        with pytest.raises(ProviderDown):
            embedder.work(memories)
        with pytest.raises(ProviderDown):
            memories.by_text("thing number 3", 1, ALL, NOW)
        assert len(memories.waiting) == 5
        server.status = 200
        while memories.waiting:
            assert embedder.work(memories)
        assert memories.by_text("thing number 3", 1, ALL, NOW)[0].entry.id == "m3"
        assert {one.revision for one in memories.shelves} == {"small@1/64"}
        assert embedder.work(memories) == 0


def test_a_text_that_is_refused_hinders_no_other() -> None:
    with provided() as (server, provider):
        log, memories = log_of(provider, 3)
        log.memory("a", "bad", payload=f'{{"text": "{UNFIT}"}}')
        embedder = Embedder(lambda: log.rows.tenants, provider)
        while memories.waiting:
            assert embedder.work(memories)
        assert (memories.unusable, len(memories.waiting), len(memories.shelves[0])) == (1, 0, 3)
        with pytest.raises(UnfitText):
            memories.by_text(UNFIT, 1, ALL, NOW)


def test_what_changed_or_went_meanwhile_gets_no_old_vector() -> None:
    with provided() as (_, provider):
        log, memories = log_of(provider, 3)
        asked = memories.texts(9)
        assert {id_: version for id_, (version, _) in asked.items()} == dict.fromkeys(asked, 1)
        log.content("a", "m0", payload='{"text": "zebra"}', version=2)
        log.head("a", "m0", version=2, content_version=2)
        log.head("a", "m1", version=2, deleted=True)
        for id_, (version, text) in asked.items():
            memories.embedded(id_, version, provider.embed(text))
        assert memories.waiting == {"m0": 2} and len(memories.shelves[0]) == 1
        assert Embedder(lambda: log.rows.tenants, provider).work(memories) == 1
        assert memories.by_text("zebra", 1, ALL, NOW)[0].entry.id == "m0"


def test_the_thread_works_until_it_is_stopped() -> None:
    with provided() as (_, provider):
        log, memories = log_of(provider, 200)
        embedder = Embedder(lambda: log.rows.tenants, provider)
        embedder.start()
        try:
            eventually(lambda: not memories.waiting, 60.0, "all have vectors")
        finally:
            embedder.stop(30.0)
        assert len(memories.shelves[0]) == 200 and not embedder.why
    Embedder(dict, HashedNgrams(8)).start()  # nothing to do


def test_another_revision_embeds_anew_by_replay_and_what_waits_goes_on_from_a_snapshot(
    tmp_path: Any,
) -> None:
    with provided() as (server, provider):
        log, memories = log_of(provider, 4)
        one = dict([memories.texts(1).popitem()])
        for id_, (version, text) in one.items():
            memories.embedded(id_, version, provider.embed(text))
        path, taken = tmp_path / "s", Taken("t", "i", {}, {}, time.time())
        save(path, taken, log.rows.tenants, log.rows.holding)
        again = load(path, "t", "i", log.rows.holding)[1]["a"]
        assert len(again.waiting) == 3 and len(again.shelves[0]) == 1
        newer = provider_of(own(server, embedding_revision="2"))
        with pytest.raises(RefusedError, match="keeps vectors otherwise"):
            load(path, "t", "i", Holding(Law(), 32, newer))
        _, anew = log_of(newer, 4)
        assert len(anew.waiting) == 4
        newer.close()


def test_vectors_of_several_revisions_arent_compared() -> None:
    log = Log(Holding(Law(), 32, None))
    log.memory("a", "one", [1.0, 0.0], model_revision="r1")
    memories = log.rows.of("a")
    query = np.array([1.0, 0.0])
    assert [one.entry.id for one in memories.by_vector(query, 9, ALL, NOW)] == ["one"]
    log.memory("a", "two", [1.0, 0.0], model_revision="r2")
    log.memory("a", "three", [1.0, 0.0, 0.0], model_revision="r3")
    with pytest.raises(DimensionError, match=r"several revisions \(r1, r2\): say model_revision"):
        memories.by_vector(query, 9, ALL, NOW)
    found = memories.by_vector(query, 9, ALL, NOW, "r2")
    assert [one.entry.id for one in found] == ["two"]
    log.gone("a", "one")
    assert [one.entry.id for one in memories.by_vector(query, 9, ALL, NOW)] == ["two"]


def test_settings_say_whom_to_ask() -> None:
    made = Settings(kafka_bootstrap="127.0.0.1:1", recall=RecallSettings(provider="http"))
    with pytest.raises(SettingsError, match="SOMA_RECALL__EMBEDDING_URL"):
        holding_of(made)
