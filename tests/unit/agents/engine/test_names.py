"""Interning beside a dict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.derived_ids import ID_BYTES_MAX, put_derived_id
from agents.engine.names import Names

pytestmark = [
    pytest.mark.kernel,
    # As plain Python (NUMBA_DISABLE_JIT=1) NumPy minds that a hash overflows.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


@given(words=st.lists(st.binary(max_size=12), max_size=300), capacity=st.sampled_from([1, 2, 64]))
@settings(deadline=None)
def test_names_are_numbered_like_a_dict(words: list[bytes], capacity: int) -> None:
    buf = np.frombuffer(b"".join(words) + b"\0", np.uint8).copy()
    size = np.array([len(w) for w in words], np.int64)
    pos = np.cumsum(size) - size
    out = np.zeros(len(words), np.int64)
    names = Names(capacity)
    names.intern(buf, pos, size, np.zeros(len(words), np.uint8), out)
    numbers: dict[bytes, int] = {}
    assert out.tolist() == [numbers.setdefault(w, len(numbers)) for w in words]
    assert [names.name(k) for k in range(names.count)] == list(numbers)
    again = np.zeros(len(words), np.int64)
    names.intern(buf, pos, size, np.zeros(len(words), np.uint8), again, add=False)
    assert again.tolist() == out.tolist()


def test_skipped_and_outlying_spans_have_no_number() -> None:
    names, out = Names(), np.zeros(4, np.int64)
    buf = np.frombuffer(b"abcd", np.uint8).copy()
    pos, size = np.array([0, 1, 2, -1]), np.array([2, 1, 9, 1])
    names.intern(buf, pos, size, np.array([0, 7, 0, 0], np.uint8), out)
    assert out.tolist() == [0, -1, -1, -1] and names.count == 1


def test_a_name_that_is_not_to_be_added_is_absent() -> None:
    names = Names()
    assert names.code(b"a", add=False) == -1 and names.code(b"a") == 0 and names.code(b"") == 1
    with pytest.raises(IndexError):
        names.name(2)


@given(words=st.sets(st.binary(max_size=6), min_size=1, max_size=50), rnd=st.randoms())
@settings(deadline=None)
def test_forgetting_keeps_the_others_in_order(words: set[bytes], rnd: object) -> None:
    order = sorted(words)
    names = Names(4)
    for word in order:
        names.code(word)
    live = np.array([len(w) % 2 == 0 for w in order])
    moved = names.keep(live)
    kept = [w for w in order if len(w) % 2 == 0]
    assert [names.name(k) for k in range(names.count)] == kept
    assert [int(moved[k]) for k, w in enumerate(order) if len(w) % 2 == 0] == list(range(len(kept)))
    assert all(names.code(w, add=False) == k for k, w in enumerate(kept))


@pytest.mark.parametrize(("pos", "size"), [(2**63 - 1, 5), (5, 2**63 - 1), (-1, 1), (9, 0), (3, 6)])
def test_a_span_outside_its_buffer_is_no_name(pos: int, size: int) -> None:
    """Its end may be beyond what a number holds."""
    out, skip = np.zeros(1, np.int64), np.zeros(1, np.uint8)
    Names(4).intern(np.zeros(8, np.uint8), np.array([pos]), np.array([size]), skip, out)
    assert out[0] == -1


@given(offset=st.integers(0, 2**63 - 1))
def test_derived_ids(offset: int) -> None:
    prefix = np.frombuffer(b"0123abcd-17-", np.uint8).copy()
    out = np.zeros(ID_BYTES_MAX + 3, np.uint8)
    end = put_derived_id(out, 3, prefix, offset)
    assert out[3:end].tobytes() == b"0123abcd-17-%d" % offset
    assert (
        put_derived_id(out, ID_BYTES_MAX, prefix, offset) == -1
        and put_derived_id(out, 0, prefix, -1) == -1
    )


@pytest.mark.parametrize("count", [257, 300, 1000, 1025])
def test_forgetting_leaves_a_table_that_ends_every_search(count: int) -> None:
    """However many names are kept: the table's size stays a power of two."""
    names = Names()
    for k in range(count):
        names.code(f"{k}".encode())
    names.keep(np.ones(count, np.bool_))
    assert [names.code(f"{k}".encode()) for k in range(2 * count)] == list(range(2 * count))
