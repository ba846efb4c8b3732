"""Searches by words and by both: of one's own tenant, with the same filters, as far as PostgreSQL
is there; searches by likeness whatever becomes of it.
"""

from typing import Any

from pydantic import SecretStr

from agents.coordinates import memory_id
from agents.projections.postgres import TopicToTable
from agents.settings import Settings
from agents.settings.groups import RecallSettings
from agents.tables.declared import declared
from tests.live.agents.api.conftest import api_settings
from tests.live.agents.api.helpers import acme
from tests.live.agents.api.inside import Client
from tests.live.agents.api.test_recall import forget, globex, node, remember, search
from tests.live.agents.projections.compare import sql
from tests.live.helpers import ended, eventually

MADE = ("memory.events", "memory.latest")
NOBODY = SecretStr("postgresql://127.0.0.1:1/nobody")
BOTH = ("keywords", "hybrid")


def refused(client: Client, **body: Any) -> tuple[int, str]:
    answer = client.post("/memories/search", json=body, headers=acme())
    return answer.status_code, answer.json()["detail"]


def test_words_find_too_and_without_postgres_likeness_alone(
    topics: Settings, database: Settings
) -> None:
    remember(topics, "acme", "err", payload='{"text":"checkout failed with ERR_4711","n":1}')
    remember(topics, "acme", "other", payload='{"text":"checkouts are slow, and failing","n":2}')
    remember(topics, "acme", "plain", payload='{"text":"alice likes short answers","n":3}')
    remember(topics, "globex", "secret", payload='{"text":"checkout failed with ERR_4711"}')
    what = next(one for one in declared(topics) if one.name == "memories")
    with node(topics) as client:
        status, said = refused(client, text="checkout", mode="keywords")
        assert status == 503 and "no worker has begun" in said
        service = TopicToTable(topics, what)
        service.start()
        with ended([service]):
            own = memory_id("acme", "err")
            found = client.post("/memories/search", headers=acme(), json={
                "text": "ERR_4711 failing", "mode": "keywords", "wait": {"id": own}})  # fmt: skip
            assert found.status_code == 200, found.text
            told = [(one["coordinate"], one["similarity"]) for one in found.json()["results"]]
            assert told == [("err", None), ("other", None)]
            assert search(client, text="alice", mode="keywords")[0][0] == "plain"
            # Another tenant's rows are in another partition: they may come later.
            theirs = {"id": memory_id("globex", "secret")}
            search(client, globex(), text="checkout", mode="keywords", wait=theirs)
            both = search(client, text="failing checkouts", mode="hybrid")
            assert {one[0] for one in both[:2]} == {"err", "other"}
            for mode in BOTH:
                body: dict[str, Any] = {"text": "checkout failed", "mode": mode}
                some = {"payload": {"n": 2}}
                assert [one[0] for one in search(client, filters=some, **body)] == ["other"]
                assert [one[0] for one in search(client, globex(), **body)] == ["secret"]
                assert len(search(client, top_k=1, **body)) == 1
                assert refused(client, vector=[1.0] * 64, mode=mode) == (
                    422,
                    f"{mode} asks for a text.",
                )
            assert refused(client, text="x", vector=[1.0], mode="keywords")[0] == 422
            forget(topics, "acme", "err")
            late = remember(topics, "acme", "late", payload='{"text":"zebra"}', version=1)
            wait = {"id": late}
            assert search(client, text="zebra", mode="keywords", wait=wait)[0][0] == "late"
            assert search(client, text="ERR_4711", mode="keywords") == []
        sql(topics, "UPDATE SCHEMA.projections SET dropped = true WHERE name = 'memories'")
        assert all("is dropped" in refused(client, text="x", mode=mode)[1] for mode in BOTH)
    away = topics.model_copy(update={"postgres_dsn": NOBODY})
    own = RecallSettings(serve="on", dimension=64)
    with Client(away.model_copy(update={"recall": own, "api": api_settings()})) as client:
        eventually(lambda: client.get("/stats", headers=acme()).status_code == 200, 60.0)
        for mode in BOTH:
            status, said = refused(client, text="checkout", mode=mode)
            assert status == 503 and "PostgreSQL isn't there" in said
        assert search(client, text="alice likes")[0][0] == "plain"
