"""What waits for Kafka says so: it waits as long as it takes, but never in silence."""

import time

import pytest

from agents.gateway.writer import GatewayWriter
from agents.settings import Settings


def test_records_that_nobody_acknowledges_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    one = GatewayWriter(Settings(kafka_bootstrap="127.0.0.1:1", stalled_after_s=1.0))
    one.poll()
    one.state(0, "0" * 32, 7, {})
    until = time.monotonic() + 20
    while not caplog.records and time.monotonic() < until:
        one.poll()
        time.sleep(0.01)
    told = [record.getMessage() for record in caplog.records]
    assert told and told[0].startswith("Kafka has acknowledged nothing for 1 s: 1 records")
    one.close(0.1)
