"""The cache's law, on a real Valkey: never older over newer, and nothing old shown as fresh."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as quick
from hypothesis import strategies as st

from ops.stack import Endpoints, Stack
from stores.errors import StoreDown
from stores.frame_cache import TTL_MS, Frame, FrameCache, FramePosition


def frame(tenant: str, offset: int, log_ms: int, topic_id: str = "aa", partition: int = 1) -> Frame:
    place = FramePosition(topic_id, partition, offset, log_ms)
    return Frame(tenant, {"tenant": tenant, "leader": "state", "confidence": 0.5}, place)


def now() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def cache(stack: Endpoints, namespace: str) -> Iterator[FrameCache]:
    one = FrameCache(stack.redis_url, lambda key: f"{namespace}:{key}")
    yield one
    one.close()


def test_a_frame_is_json_under_its_tenant(cache: FrameCache, stack: Endpoints) -> None:
    assert cache.get("cpu") is None
    assert cache.put([frame("cpu", 5, now())]) == ["written"]
    held = cache.get("cpu")
    assert held is not None and held["leader"] == "state"
    assert held["place"]["offset"] == 5
    with redis.Redis.from_url(stack.redis_url) as client:
        left = client.pttl(cache.key("cpu"))
    assert isinstance(left, int) and TTL_MS - 5_000 < left <= TTL_MS


def test_an_older_frame_never_replaces_a_newer_one(cache: FrameCache) -> None:
    at = now()
    assert cache.put([frame("cpu", 5, at), frame("cpu", 4, at), frame("cpu", 5, at)]) == [
        "written",
        "older",
        "older",
    ]
    assert cache.put([frame("cpu", 6, at - 1)]) == ["written"]  # the offset decides, not the time


def test_of_another_topic_the_later_log_time_wins(cache: FrameCache) -> None:
    at = now()
    cache.put([frame("cpu", 900, at)])
    assert cache.put([frame("cpu", 0, at - 1, "bb"), frame("cpu", 0, at + 1, "bb")]) == [
        "older",
        "written",
    ]
    assert cache.put([frame("cpu", 901, at)]) == ["older"]


def test_a_frame_that_comes_late_is_not_shown_as_fresh(cache: FrameCache) -> None:
    old = now() - TTL_MS
    assert cache.put([frame("cpu", 1, old)]) == ["expired"]
    assert cache.get("cpu") is None
    assert cache.put([frame("cpu", 2, old + 400)]) == ["written"]
    deadline = time.monotonic() + 5
    while cache.get("cpu") is not None:
        assert time.monotonic() < deadline, "it lives until two minutes after its own time"
        time.sleep(0.02)


def test_what_others_left_under_the_key_is_replaced(cache: FrameCache, stack: Endpoints) -> None:
    with redis.Redis.from_url(stack.redis_url) as client:
        for rubbish in ("no json", "[1]", '{"place": 3}', '{"place": {}}', "12"):
            client.set(cache.key("cpu"), rubbish)
            assert cache.put([frame("cpu", 1, now())]) == ["written"]


def test_more_frames_than_a_pipeline_holds(cache: FrameCache) -> None:
    frames = [frame(f"t{k}", k, now()) for k in range(1_234)]
    assert cache.put(frames) == ["written"] * 1_234
    assert cache.get("t1233") is not None


places = st.tuples(st.sampled_from(["aa", "bb"]), st.integers(0, 2**53), st.integers(0, 1000))


@given(st.lists(places, min_size=1, max_size=12))
@quick(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_held_is_never_older_than_before(
    cache: FrameCache, stack: Endpoints, written: list[tuple[str, int, int]]
) -> None:
    at = now()
    with redis.Redis.from_url(stack.redis_url) as client:
        client.delete(cache.key("cpu"))
    held: tuple[str, int, int] | None = None
    for topic_id, offset, later in written:
        newer = (
            held is None
            or (topic_id == held[0] and offset > held[1])
            or (topic_id != held[0] and later > held[2])
        )
        result = cache.put([frame("cpu", offset, at + later, topic_id)])
        assert result == ["written" if newer else "older"]
        held = (topic_id, offset, later) if newer else held


def test_a_store_that_is_away_is_named_as_such(new_home: Callable[[], Path]) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    cache = FrameCache(own.up().redis_url)
    try:
        assert cache.put([frame("cpu", 1, now())]) == ["written"]
        own.stop("valkey")
        with pytest.raises(StoreDown):
            cache.put([frame("cpu", 2, now())])
        with pytest.raises(StoreDown):
            cache.ping()
        with pytest.raises(StoreDown):
            cache.get("cpu")
        own.start("valkey")
        assert cache.put([frame("cpu", 2, now())]) == ["written"]
    finally:
        cache.close()
        own.down()


def test_a_frame_from_the_future_is_shown_no_longer_than_others(
    cache: FrameCache, stack: Endpoints
) -> None:
    """The broker's clock was ahead, or the store's went back."""
    assert cache.put([frame("cpu", 1, now() + 3_600_000)]) == ["written"]
    with redis.Redis.from_url(stack.redis_url) as client:
        left = client.pttl(cache.key("cpu"))
    assert isinstance(left, int) and 0 < left <= TTL_MS


def test_a_connection_to_what_became_a_replica_is_given_up(new_home: Callable[[], Path]) -> None:
    own = Stack(new_home(), ephemeral=True, without=("kafka", "postgres"))
    url = own.up().redis_url
    cache = FrameCache(url)
    try:
        with redis.Redis.from_url(url) as admin:
            assert cache.put([frame("cpu", 1, now())]) == ["written"]
            assert len(admin.client_list()) == 2
            admin.replicaof("127.0.0.1", 1)
            with pytest.raises(StoreDown, match="ReadOnly"):
                cache.put([frame("cpu", 2, now())])
            clients = [one for one in admin.client_list() if one["flags"] == "N"]
            assert len(clients) == 1, "the next connection looks its name up anew"
            admin.replicaof("NO", "ONE")
        assert cache.put([frame("cpu", 2, now())]) == ["written"]
    finally:
        cache.close()
        own.down()
