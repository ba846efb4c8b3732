"""The search finds what a search in float64 through all rows finds, whatever came and went."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.recall import law
from agents.recall.entry import Entry, Filters
from agents.recall.importance import Scale
from agents.recall.shelf import Found, Law, Shelf, kth

SCALE = Scale("minmax", 0.0, 1.0)
SECOND, DAY_S = 1_000_000, 86_400.0


def entry(id_: str, **more: Any) -> Entry:
    given = {
        "namespace": "", "version": 1, "memory_type": "episodic", "importance_raw": None,
        "created_ts": 0, "updated_ts": 0, "accessed_ts": 0, "access_count": 0, "links": {},
        "content_version": 1, "coordinate": id_, "payload": "{}", "model_revision": "",
    } | more  # fmt: skip
    return Entry(id_, **given)


def brute(shelf: Shelf, query: law.Floats, k: int, now: int, by: Law, fit: Any = None) -> list[str]:
    """The law, row by row in float64, with ids between equal scores."""
    ones = [*shelf.entries()]
    raw = [math.nan if one.importance_raw is None else one.importance_raw for one in ones]
    ages = [(now - one.updated_ts) / SECOND for one in ones]
    sims = law.similarity(shelf.vectors.exact(np.array([one.place for one in ones], int)), query)
    scores = law.score(sims, SCALE(np.array(raw)), ages, by.alpha, by.half_life_s)
    scored = [
        (-score, one.id)
        for score, one in zip(scores.tolist(), ones, strict=True)
        if score > 0 and (fit is None or fit(one))
    ]
    return [id_ for _, id_ in sorted(scored)[:k]]


def ids(found: list[Found]) -> list[str]:
    return [one.entry.id for one in found]


@settings(max_examples=25)
@given(
    st.integers(1, 300), st.integers(1, 30), st.sampled_from([math.inf, 10.0, DAY_S]),
    st.sampled_from([0.0, 1.0, 2.5]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_ids_are_those_of_a_search_through_all_rows(
    n: int, k: int, half_life: float, alpha: float, seed: int
) -> None:
    random, by = np.random.default_rng(seed), Law(alpha, half_life)
    shelf = Shelf(8, "", 32, by)
    there: list[Entry] = []
    for number in range(n):
        # Some the same, so that ids decide; some of a time to come.
        vector = law.unit(random.integers(-2, 3, 8).astype(float) + 1e-3)
        one = entry(
            f"{random.integers(10**6):06}-{number}",
            updated_ts=int(random.integers(0, 100 * SECOND)),
            importance_raw=random.choice([None, 0.0, 0.3, 1.0]), payload=f'{{"a": {number % 3}}}',
            memory_type=("episodic", "semantic")[number % 2],
        )  # fmt: skip
        shelf.put(one, vector, number % 4, SCALE)
        there.append(one)
        if random.random() < 0.3:
            shelf.remove(there.pop(random.integers(len(there))))
    assert len(shelf) == len(there) and shelf.count <= n
    query = law.unit(random.standard_normal(8))
    for now in (200 * SECOND, 50 * SECOND):
        for filters, fit in (
            (Filters(), None),
            (Filters(payload={"a": 1}), lambda one: one.payload == '{"a": 1}'),
            (Filters(memory_type="semantic", since=20 * SECOND, until=80 * SECOND), lambda one:
             one.memory_type == "semantic" and 20 * SECOND <= one.updated_ts < 80 * SECOND),
        ):  # fmt: skip
            found = shelf.search(query, k, filters, now, SCALE, None)
            assert ids(found) == brute(shelf, query, k, now, by, fit)


def test_so_are_they_among_many_rows() -> None:
    """More than are looked at one by one: the rough products choose."""
    random, by, n = np.random.default_rng(11), Law(1.0, 30 * DAY_S), 5000
    shelf = Shelf(16, "", 32, by)
    for number in range(n):
        one = entry(f"{number:05}", updated_ts=number * SECOND, importance_raw=random.random(),
                    payload=f'{{"a": {number % 2 if number < 4990 else 7}}}')  # fmt: skip
        shelf.put(one, law.unit(random.standard_normal(16)), 0, SCALE)
    for value in (None, 1, 7):
        asked = Filters() if value is None else Filters(payload={"a": value})
        fit = None if value is None else lambda one, end=f" {value}}}": one.payload.endswith(end)
        query = law.unit(np.random.default_rng(value).standard_normal(16))
        for k in (1, 10, 700):
            found = shelf.search(query, k, asked, n * SECOND, SCALE, None)
            assert ids(found) == brute(shelf, query, k, n * SECOND, by, fit)


@pytest.mark.parametrize(("bits", "bytes_"), [(16, 2 * 64 + 4), (8, 64 + 4)])
def test_fewer_bits_take_less_and_find_nearly_the_same(bits: int, bytes_: int) -> None:
    random, n = np.random.default_rng(2), 2000
    small, whole = Shelf(64, "", bits, Law()), Shelf(64, "", 32, Law())
    for number in range(n):
        vector = law.unit(random.standard_normal(64))
        for one in (small, whole):
            one.put(entry(f"{number:05}"), vector, 0, SCALE)
    assert small.vectors.nbytes == small.vectors.room * bytes_
    same = 0
    for seed in range(30):
        query = law.unit(np.random.default_rng(seed).standard_normal(64))
        found, wanted = (one.search(query, 10, Filters(), 0, SCALE, None) for one in (small, whole))
        same += len({*ids(found)} & {*ids(wanted)})
    assert same / 300 >= (0.99 if bits == 16 else 0.93)


def test_places_are_used_again_and_room_grows_by_half() -> None:
    shelf = Shelf(2, "", 32, Law())
    ones = [entry(f"{k}") for k in range(100)]
    for one in ones:
        shelf.put(one, law.unit(np.ones(2)), 0, SCALE)
    assert shelf.vectors.room == 121  # 16, 24, 36, 54, 81, 121
    for one in ones[:60]:
        shelf.remove(one)
    for k in range(60):
        shelf.put(entry(f"new{k}"), law.unit(np.ones(2)), 0, SCALE)
    assert (shelf.count, len(shelf)) == (100, 100)
    assert len(shelf.search(law.unit(np.ones(2)), 1000, Filters(), 0, SCALE, None)) == 100


def test_another_scale_of_importance_weighs_all_anew() -> None:
    shelf = Shelf(2, "", 32, Law())
    shelf.put(entry("a", importance_raw=1.0), law.unit(np.array([1.0, 0.2])), 0, SCALE)
    shelf.put(entry("b", importance_raw=0.2), law.unit(np.array([1.0, 0.0])), 0, SCALE)
    query = np.array([1.0, 0.0])
    assert ids(shelf.search(query, 1, Filters(), 0, SCALE, None)) == ["a"]
    shelf.stale = True
    same = Scale("minmax", -1e9, 1.0)
    assert ids(shelf.search(query, 1, Filters(), 0, same, None)) == ["b"]


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=500), st.integers(1, 20))
def test_the_bound_is_reached_by_k_values(values: list[float], k: int) -> None:
    array = np.array(values)
    bound = kth(array, k)
    assert np.sum(array >= bound) >= min(k, len(values))
