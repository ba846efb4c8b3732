"""What is documented of the API's metrics and what it emits is the same."""

from collections.abc import Callable
from pathlib import Path

import httpx

from tests.live.agents.api.helpers import ApiProcess, acme, observation
from tests.metrics_page import differences, documented, said


def test_the_api_emits_what_is_documented_and_nothing_else(
    process: Callable[..., ApiProcess], tmp_path: Path
) -> None:
    one = process(SOMA_JOURNAL__FOLDER=str(tmp_path / "journal"))
    event = {"payload": observation()}
    answer = httpx.post(
        f"{one.base}/events/cog.observations", json=event, headers=acme(), timeout=10.0
    )
    assert answer.status_code == 202, answer.text
    shown = httpx.get(f"{one.base}/metrics", timeout=5.0).text
    found = differences(documented()["API"], said(shown))
    assert not found, "\n".join(found)
