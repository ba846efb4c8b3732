"""The prover's publisher outlives a client of its own that has lost the broker."""

import itertools

import pytest

from agents.settings import Settings
from ops.prove import proxy
from ops.prove.feed import OBSERVATIONS, Event
from ops.prove.proxy import Proxy, Rule
from ops.prove.publisher import Publisher
from tests.live.helpers import eventually, read


def test_what_a_silent_client_has_not_heard_of_goes_by_a_new_one(
    topics: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = itertools.count()
    feed = (Event(OBSERVATIONS, 1, b"t", str(next(numbers)).encode()) for _ in itertools.repeat(0))
    with Proxy(topics.bootstrap()) as between:
        one = Publisher(between.address, topics.namespace, feed, rate=200.0, silence_s=2.0)
        eventually(lambda: one.step() or one.sent > 50)
        swallowed = between.rule(Rule(proxy.PRODUCE, ""))  # and all that comes on that connection
        eventually(lambda: one.step() or one.renewed, what="the client is replaced")
        one.finish()
    assert swallowed.hits == 1 and not one.failed and one.renewed == 1
    found = {int(message.value() or b"") for message in read(topics, OBSERVATIONS)}
    assert found == set(range(one.sent))
    assert "a broker answers, they go by a new client" in capsys.readouterr().err
