"""Rows of memory.latest become memories: found by id, text, vector and link, and by their tenant
alone.
"""

import math

import numpy as np
import pytest

from agents.recall.embedding import HashedNgrams
from agents.recall.entry import Filters
from agents.recall.memories import DimensionError, Holding, Memories, Neighbour
from agents.recall.shelf import Law
from tests.unit.agents.recall.samples import SECOND, Log
from topics.codec import BadRecord

ALL = Filters()
TEXTS = Holding(Law(), 32, HashedNgrams(64))


def found(
    memories: Memories, vector: list[float], filters: Filters = ALL, k: int = 10
) -> list[str]:
    return [one.entry.id for one in memories.by_vector(np.array(vector), k, filters, 10 * SECOND)]


def test_a_memory_is_there_once_both_its_rows_are() -> None:
    log = Log()
    log.content("acme", "a", [1, 0], coordinate="x", payload='{"n":1}')
    assert log.rows.of("acme").get("a") is None
    log.head("acme", "a", content_version=1, offset=7)
    one = log.rows.of("acme").get("a")
    assert one is not None and (one.coordinate, one.payload, one.version) == ("x", '{"n":1}', 1)
    assert log.rows.folded == {0: 7}


def test_a_head_whose_content_compaction_moved_waits_for_the_newer_one() -> None:
    log = Log()
    log.head("acme", "a", version=3, content_version=2)
    assert len(log.rows.of("acme")) == 0
    log.content("acme", "a", [1, 0], version=5, payload='{"n":5}')
    assert len(log.rows.of("acme")) == 0
    log.head("acme", "a", version=5, content_version=5)
    assert found(log.rows.of("acme"), [1, 0]) == ["a"]
    assert not log.rows.of("acme").halves()


def test_until_its_head_comes_a_new_content_is_not_seen() -> None:
    log = Log()
    log.memory("acme", "a", [1, 0], payload='{"n":1}')
    log.content("acme", "a", [0, 1], version=2, payload='{"n":2}')
    memories = log.rows.of("acme")
    assert found(memories, [1, 0]) == ["a"] and found(memories, [0, 1]) == []
    log.head("acme", "a", version=2, content_version=2)
    assert found(memories, [1, 0]) == [] and found(memories, [0, 1]) == ["a"]


def test_a_head_alone_changes_what_is_in_it() -> None:
    log = Log()
    log.memory("acme", "a", [1, 0], importance_raw=1.0)
    log.memory("acme", "b", [1, 0], importance_raw=5.0)
    log.head("acme", "a", version=2, content_version=1, importance_raw=9.0, access_count=4,
             memory_type="semantic", links={"b": "of"})  # fmt: skip
    memories = log.rows.of("acme")
    one = memories.get("a")
    assert one is not None and (one.access_count, one.links, one.version) == (4, {"b": "of"}, 2)
    assert found(memories, [1, 0]) == ["a", "b"]
    assert found(memories, [1, 0], Filters(memory_type="semantic")) == ["a"]


@pytest.mark.parametrize("how", ["deleted", "tombstone"])
def test_what_is_deleted_is_gone_and_its_tenant_with_the_last(how: str) -> None:
    log = Log()
    log.memory("acme", "a", [1, 0], links={"b": "of"})
    log.memory("acme", "b", [1, 0])
    log.gone("acme", "a", content=True)
    if how == "deleted":
        log.head("acme", "a", version=2, deleted=True)
    else:
        log.gone("acme", "a")
    memories = log.rows.of("acme")
    assert found(memories, [1, 0]) == ["b"] and memories.neighbours("b", None, 9) == []
    log.gone("acme", "b")
    assert log.rows.tenants == {}


def test_what_nobody_can_read_is_counted_and_passed_over() -> None:
    log = Log()
    for key, value in ((b"no key", None), (b"a\x1f\x1fb", b"\0\0\0\0\x01junk"), (b"\xff", None)):
        with pytest.raises((ValueError, BadRecord)):
            log.rows.row(0, key, value)


def test_filters_come_before_the_best_are_chosen() -> None:
    log = Log()
    for k in range(40):
        payload = f'{{"k":{k},"even":{str(k % 2 == 0).lower()}}}'
        log.memory("acme", f"m{k:02}", [1, k / 100], namespace=("n", "o")[k % 2],
                   updated_ts=k * SECOND // 10, payload=payload)  # fmt: skip
    memories = log.rows.of("acme")
    assert found(memories, [1, 0], Filters(namespace="o"), 2) == ["m01", "m03"]
    assert found(memories, [1, 0], Filters(namespace="none")) == []
    assert found(memories, [1, 0], Filters(payload={"k": 30.0})) == ["m30"]
    assert found(memories, [1, 0], Filters(payload={"even": True, "k": 31})) == []
    assert found(memories, [1, 0], Filters(payload={"even": 1})) == []  # true is no number
    assert found(memories, [1, 0], Filters(since=SECOND, until=SECOND * 12 // 10)) == ["m10", "m11"]
    log.memory("acme", "new", [1, 0], payload='{"k":30}')  # into columns that are there
    assert found(memories, [1, 0], Filters(payload={"k": 30})) == ["new", "m30"]


def test_texts_get_vectors_and_are_never_compared_with_those_of_others() -> None:
    log = Log(TEXTS)
    log.memory("acme", "a", payload='{"text":"the deploy failed"}')
    log.memory(
        "acme", "b", np.ones(64), payload='{"text":"the deploy failed"}', model_revision="m1"
    )
    memories = log.rows.of("acme")
    (one,) = memories.by_text("deploy failed", 10, ALL, 0)
    assert one.entry.id == "a" and one.entry.model_revision == "hashed-ngrams-1/64"
    assert [f.entry.id for f in memories.by_vector(np.ones(64), 9, ALL, 0, "m1")] == ["b"]
    with pytest.raises(DimensionError, match="no provider"):
        Log().rows.of("acme").by_text("deploy", 1, ALL, 0)


def test_vectors_of_another_dimension_and_of_none_are_named() -> None:
    log = Log()
    log.memory("acme", "a", [1, 0])
    memories = log.rows.of("acme")
    with pytest.raises(DimensionError, match="the dimension 3 isn't one of this tenant's: 2"):
        found(memories, [1, 0, 0])
    with pytest.raises(ValueError, match="isn't finite"):
        found(memories, [math.nan, 0])
    assert found(memories, [0, 0]) == []
    for bad in (b"abc", np.array([math.nan, 1], "<f4").tobytes()):
        log.memory("acme", "bad", bad)
    assert memories.unusable == 2 and memories.get("bad") is not None
    log.memory("acme", "zero", [0, 0])
    assert found(memories, [1, 0]) == ["a"]


def test_neighbours_are_linked_in_either_direction() -> None:
    log = Log()
    log.memory("acme", "a", [1, 0], links={"b": "causes", "gone": "causes"})
    log.memory("acme", "b", [1, 0], links={"a": "of"})
    memories = log.rows.of("acme")
    assert memories.neighbours("a", None, 9) == [
        Neighbour("b", "causes", True),
        Neighbour("b", "of", False),
    ]
    assert memories.neighbours("a", "of", 9) == [Neighbour("b", "of", False)]
    assert memories.neighbours("none", None, 9) == []


def test_a_shortest_path_goes_along_links_whatever_circles_there_are() -> None:
    log = Log()
    links = {"a": "bc", "b": "a", "c": "da", "d": "e", "e": "ae"}
    for one, to in links.items():
        log.memory("acme", one, [1, 0], links=dict.fromkeys(to, "next"))
    memories = log.rows.of("acme")
    assert memories.path("a", "e") == ["a", "c", "d", "e"]
    assert memories.path("a", "a") == ["a"]
    assert memories.path("b", "e", 3) is None and memories.path("b", "e", 4) is not None
    assert memories.path("a", "none") is None
    log.gone("acme", "d")
    assert memories.path("a", "e") is None


def test_a_tenant_finds_nothing_of_another() -> None:
    log = Log(TEXTS)
    for tenant in ("acme", "globex"):
        for k in range(20):
            log.memory(tenant, f"{tenant}-{k}", [1, k], payload='{"same":"text"}')
    for tenant in ("acme", "globex"):
        memories = log.rows.of(tenant)
        assert {one.split("-")[0] for one in found(memories, [1, 5], k=100)} == {tenant}
    assert log.rows.of("acme").get("globex-1") is None
    assert found(log.rows.of("nobody"), [1, 0]) == []
