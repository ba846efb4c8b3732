"""What is documented of the API's metrics and what it emits is the same."""

from collections.abc import Callable
from pathlib import Path

import httpx

from agents.settings import Settings
from tests.live.agents.api.helpers import ApiProcess, acme, observation
from tests.live.conftest import with_topics
from tests.metrics_page import differences, documented, said


def test_the_api_emits_what_is_documented_and_nothing_else(
    process: Callable[..., ApiProcess], database: Settings, tmp_path: Path
) -> None:
    with_topics(database, ["memory.latest"])
    one = process(SOMA_JOURNAL__FOLDER=str(tmp_path / "journal"), SOMA_RECALL__SERVE="on")
    event = {"payload": observation()}
    answer = httpx.post(
        f"{one.base}/events/cog.observations", json=event, headers=acme(), timeout=10.0
    )
    assert answer.status_code == 202, answer.text
    shown = httpx.get(f"{one.base}/metrics", timeout=5.0).text
    found = differences(documented()["API"], said(shown))
    assert not found, "\n".join(found)
