"""A database that takes everything and answers nothing: an outage, seen within a deadline."""

import logging
from typing import Any
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from agents.settings import Settings
from tests.live.agents.outbox.outbox import Running, add_all, asked, made, queued, sequences
from tests.live.deaf import Deaf
from tests.live.helpers import eventually


@pytest.mark.slow
def test_the_relay_gives_a_silent_database_up_and_goes_on(
    topics: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ready = made(topics)
    at = urlsplit(ready.postgres())

    async def few(connection: Any, first: int) -> None:
        await add_all(connection, "acme", range(first, first + 5), "k")

    with Deaf(at.hostname or "", at.port or 0) as proxy, caplog.at_level(logging.WARNING):
        through = at._replace(netloc=at.netloc.rpartition("@")[0] + f"@127.0.0.1:{proxy.port}")
        behind = ready.model_copy(update={"postgres_dsn": SecretStr(through.geturl())})
        asked(ready, lambda connection: few(connection, 0))
        with Running(behind) as running:
            eventually(lambda: queued(ready) == 0, what="an empty queue")
            proxy.deaf = True
            asked(ready, lambda connection: few(connection, 5))
            said = "the outbox waits: PostgreSQL: "
            eventually(lambda: said in caplog.text, 50.0, "the relay says what it waits for")
            relay = running.relay
            assert relay is not None
            eventually(lambda: relay.waits.startswith("PostgreSQL: "), what="it tells for whom")
            proxy.deaf = False
            eventually(lambda: queued(ready) == 0, 60.0, "an empty queue")
            assert not relay.waits
    assert sequences(ready) == {("acme", "k"): list(range(10))}
