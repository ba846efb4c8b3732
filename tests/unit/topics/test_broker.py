"""How many topics one request creates. (What the broker says: tests/live/topics.)"""

from hypothesis import given
from hypothesis import strategies as st

from topics.broker import PARTITIONS_MAX, requests_of


@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 3 * PARTITIONS_MAX))
def test_every_topic_once_in_order_and_none_too_many(names: list[str], partitions: int) -> None:
    found = requests_of(names, partitions)
    assert [name for some in found for name in some] == names
    assert all(len(some) == 1 or len(some) * partitions <= PARTITIONS_MAX for some in found)


def test_a_usual_catalogue_is_one_request() -> None:
    assert len(requests_of([f"topic-{k}" for k in range(40)], 24)) == 1
