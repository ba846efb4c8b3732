"""The driver's records: the same for the same seed, of every kind, and where they belong."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.prove.feed import FRAMES, OBSERVATIONS, SCHEMAS, UPDATES, Feed
from ops.prove.partitions import home, murmur2
from ops.prove.wire import UnreadableError, Wire
from topics.schemas import schemas

WIRE = Wire()


def test_the_same_seed_gives_the_same_records() -> None:
    one, same, other = (list(islice(Feed(seed, WIRE, 4), 500)) for seed in (3, 3, 4))
    assert one == same != other


def test_every_kind_of_record_is_there() -> None:
    events = list(islice(Feed(1, WIRE, 4), 5000))
    values = [event.value or b"" for event in events]
    assert {event.topic for event in events} == {OBSERVATIONS, UPDATES, FRAMES}
    assert sum(value.startswith(b"{") for value in values) > 50
    settings = schemas().schema_id("control_setting").to_bytes(4, "big")
    assert sum(value[1:5] == settings for value in values) > 3
    assert sum(event.key is None for event in events) > 10
    unreadable = 0
    for event in events:
        try:
            WIRE.decode(event.value, SCHEMAS[event.topic])
        except UnreadableError:
            unreadable += 1
    assert 10 < unreadable < 100


@pytest.mark.parametrize(
    ("data", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(data: bytes, hashed: int) -> None:
    """Values of Kafka's own UtilsTest."""
    assert murmur2(data) == hashed % 2**32


@given(st.text("abc.-_09", min_size=1, max_size=40), st.integers(1, 50))
def test_a_home_is_a_partition(tenant: str, partitions: int) -> None:
    assert 0 <= home(tenant, partitions) < partitions
