"""How long a partition was silent, and what the table says of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.bench.rebalance import Silence, Workload, as_json, longest, report

times = st.lists(st.floats(-5.0, 15.0), max_size=30)


@given(seen=times)
def test_silence_is_the_longest_pause_in_the_window_its_ends_counted(seen: list[float]) -> None:
    (found,) = longest({3: sorted(seen)}, 0.0, 10.0).values()
    inside = sorted(at for at in seen if 0.0 < at < 10.0)
    assert 10.0 / (len(inside) + 1) - 1e-9 <= found <= 10.0
    for step in range(1, 100):  # no moment lies in a longer one
        at = step / 10
        before = max((t for t in inside if t <= at), default=0.0)
        after = min((t for t in inside if t > at), default=10.0)
        assert after - before <= found + 1e-9


def test_frames_outside_the_window_count_for_nothing() -> None:
    assert longest({0: [1.0, 4.0, 4.5, 9.0], 1: []}, 3.0, 5.0) == {0: 1.0, 1: 2.0}


def test_the_worst_partition_of_each_run_is_told_apart_by_whether_it_moved() -> None:
    one = Silence("join")
    one.add({0: 0.1, 1: 0.25, 2: 3.0}, [2])
    one.add({0: 0.2, 1: 0.1, 2: 0.1}, [0, 1])
    assert (one.stay, one.move, one.moved) == ([0.25, 0.1], [3.0, 0.2], [1, 2])
    table = report(Workload(partitions=3, runs=2), [one], 10.0)
    assert table.rows == [
        ("one more joins", "175 (100 - 250)", "1.60 (0.20 - 3.00)", "2 (1 - 2)", "stay: < 300 ms")
    ]
    assert "3 partitions" in table.method and "timeout 10 s" in table.method
    assert as_json([one])[0]["moved"] == [1, 2]


def test_a_run_in_which_nothing_moved_says_so() -> None:
    one = Silence("join")
    one.add({0: 0.1}, [])
    assert report(Workload(), [one], 10.0).rows[0][2] == "-"
    with pytest.raises(KeyError):
        one.add({0: 0.1}, [7])
