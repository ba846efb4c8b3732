"""What a recall node that begins anew says of itself: not ready, and why."""

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from agents.api.problems import Problem
from agents.api.recall_desk import RecallDesk
from agents.settings import Settings


def test_a_node_that_begins_anew_serves_nothing_before_all_is_read(tmp_path: Path) -> None:
    desk = RecallDesk(Settings(kafka_bootstrap="127.0.0.1:1", home=tmp_path), CollectorRegistry())

    def why() -> str:
        with pytest.raises(Problem) as raised:
            desk.of("acme")
        assert (raised.value.status_code, desk.ready()) == (503, False)
        return str(raised.value.detail)

    assert "isn't read yet" in why()
    desk.replica.whole, desk.replica.why = True, ""
    assert desk.ready() and not len(desk.of("acme"))
    desk.replica.why = "Kafka: nobody answers"  # what is found is old, no more
    assert desk.ready()
    desk.replica._forget("memory.latest was made anew")
    assert "memory.latest was made anew" in why()
