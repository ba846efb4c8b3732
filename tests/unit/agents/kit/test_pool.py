"""A pool: blocks that grow keep what they hold, wherever they are moved."""

import numpy as np
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from agents.kit.pool import POOL_MIN, Pool, claim

CELL = np.dtype([("a", "i8"), ("b", "f4"), ("c", "i4")])


@few(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3000)), max_size=60))
def test_blocks_keep_what_they_hold(claims: list[tuple[int, int]]) -> None:
    pool = Pool(CELL)
    at, size = np.zeros((2, 8), np.int64)
    held: dict[int, int] = {}
    for number, (k, need) in enumerate(claims):
        if need == 1:  # the row leaves
            pool.leave(size[k : k + 1])
            size[k] = 0
            held.pop(k, None)
            continue
        while not claim(pool.counts, pool.data.shape[0], at, size, k, need):
            pool.reserve(need, at, size)
        pool.data["a"][at[k] : at[k] + need] = number
        pool.data["c"][at[k] : at[k] + need] = -number
        held[k] = number
        for row, mark in held.items():
            block = pool.data[at[row] : at[row] + size[row]]
            assert (block["a"] == mark).all() and (block["c"] == -mark).all()
    live = int(size.sum())
    assert int(pool.counts[0] - pool.counts[1]) == live
    assert pool.data.shape[0] <= max(POOL_MIN, 6 * (live + 3000))
    pool.compact(0, at, size)
    assert pool.counts.tolist() == [live, 0]


def test_rows_get_blocks_of_items_that_are_arrays() -> None:
    pool = Pool(np.dtype((np.float64, (2, 3))), least=4)
    at, size = np.zeros((2, 9), np.int64)
    for lo in range(0, 9, 3):
        of = np.arange(lo, lo + 3)
        pool.give(at, size, of, 1)
        pool.data[at[of]] = of[:, None, None]
    assert pool.data.shape[1:] == (2, 3) and size.tolist() == [1] * 9
    assert pool.counts.tolist() == [9, 0]
    pool.leave(size[:6])
    size[:6] = 0
    assert pool.wasteful
    pool.reserve(pool.data.shape[0], at, size)
    assert pool.counts.tolist() == [3, 0]
    assert (pool.data[at[6:], 1, 2] == [6, 7, 8]).all()
