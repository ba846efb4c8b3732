"""Orders to prune are brought to memory as they are."""

from agents.kit import Driver
from agents.prune.agent import AUDIT, EVENTS, PROCESSOR
from tests.unit.agents.prune.samples import order


def test_an_order_comes_into_memory_s_source_and_leaves_no_trace() -> None:
    driver = Driver(PROCESSOR)
    given = order(ids=["x", "y"], lowest=3, confirm=True, namespace="n")
    driver.send(given)
    (one,) = driver.outputs
    assert (one.topic, one.key, one.record) == (EVENTS, "a", given)
    assert driver.rows == {}


def test_what_is_no_order_is_told_on_the_audit() -> None:
    driver = Driver(PROCESSOR)
    driver.send_bytes([(b"a", b'{"order_id": 7}')])
    (letter,), (said,) = driver.dead_letters, driver.outputs
    assert said.topic == AUDIT and said.record is not None
    assert (said.record["outcome"], said.record["reason"]) == ("dead", letter.reason)
