"""A reader whose client has lost its broker goes on by a new one, and says so."""

import pytest

from agents.settings import Settings
from agents.tools.reader import TopicReader
from ops.prove import proxy
from ops.prove.proxy import Proxy, Rule
from tests.live.helpers import eventually, produce

MADE = ("memory.events",)

TOPIC = "memory.events"


def test_a_client_that_fetches_nothing_is_replaced(
    topics: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(topics, TOPIC, [(b"k", b"x")] * 3, partition=0)
    with Proxy(topics.kafka_bootstrap) as between:
        behind = {"kafka_bootstrap": between.address, "stalled_after_s": 2.0}
        # A client waits so long for one answer, and asks nothing else meanwhile.
        own = topics.model_copy(update=behind | {"answer_timeout_s": 60})
        reader = TopicReader(own, TOPIC, "beginning")
        found: list[int | None] = []

        def come(count: int) -> bool:
            found.extend(one.offset() for one in reader.read() if one.partition() == 0)
            return len(found) >= count

        try:
            eventually(lambda: come(3), 30.0, "what is there comes")
            lost = between.rule(Rule(proxy.FETCH, "", lost=True))
            eventually(lambda: come(4) or lost.hits, 30.0, "it asks for more")
            produce(topics, TOPIC, [(b"k", b"x")] * 2, partition=0)
            eventually(lambda: come(5), 30.0, "what comes later comes too")
            assert found == [0, 1, 2, 3, 4]
            said = f"nothing came of {topics.topic(TOPIC)}/0 from 3 to 5: a new client"
            assert said in capsys.readouterr().err
        finally:
            reader.close()
