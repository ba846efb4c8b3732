"""Segments as memories."""

import json
import math

import pytest

from agents.coordinates import event_id, memory_id
from agents.episodes.agent import EVENTS, PROCESSOR
from agents.kit import Driver
from agents.memory.agent import PROCESSOR as MEMORY
from tests.unit.agents.episodes.samples import segment

ID = "0123abcd-0-7:state:cpd"


def test_a_segment_is_one_memory_with_ids_that_follow_from_it() -> None:
    driver = Driver(PROCESSOR)
    driver.setting("episodes", "on", "a")
    driver.send_all([segment(7), segment(7, tenant="b")])
    (one,) = driver.outputs  # b doesn't want any
    assert (one.topic, one.key) == (EVENTS, "a") and one.record is not None
    said = one.record
    assert said["id"] == memory_id("a", f"segment:{ID}")
    assert said["event_id"] == event_id("a", f"episode:{ID}") and said["type"] == "created"
    assert said["importance"] == 1.5 and said["ts"] == segment(7)["detected_ts"]
    payload = json.loads(said["payload"])
    assert payload["leader"] == "agent" and payload["segment_id"] == ID
    assert "agent led for 12.3 s (40 frames), mean error 0.25" in payload["text"]
    assert driver.rows == {}


@pytest.mark.parametrize("peak", [math.nan, math.inf])
def test_what_is_no_number_is_null_and_memory_takes_it(peak: float) -> None:
    driver, memory = Driver(PROCESSOR, settings={"episodes": "on"}), Driver(MEMORY)
    driver.send(segment(7, peak_error=peak, leader=""))
    (one,) = driver.outputs
    assert one.record is not None and one.record["importance"] is None
    assert json.loads(one.record["payload"])["peak_error"] is None
    memory.send(one.record)
    assert not memory.dead_letters and len(memory.outputs) == 3
