"""Two streams of outputs side by side, and one looked for among what was published."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agents.history.outputs import WHOLE, Comparison, Expected, Written
from topics import codec

VALUES = [None, *(codec.encode("control_tick", {"ts": k}) for k in range(3))]
some = st.lists(
    st.builds(lambda k, v: (k, VALUES[v]), st.sampled_from([b"a", b"b"]), st.integers(0, 3))
)
causes = st.lists(st.tuples(some, some), max_size=6)
Pair = tuple[bytes, bytes | None]


def outputs(of: list[list[Pair]], sink: int = 0) -> list[Written]:
    return [Written(sink, 0, *one, cause) for cause, each in enumerate(of) for one in each]


@given(causes)
def test_each_output_is_equal_differs_or_is_alone(of: list[tuple[list[Pair], list[Pair]]]) -> None:
    found = Comparison(1)
    found.add(outputs([a for a, _ in of]), outputs([b for _, b in of]))
    (one,) = found.sinks
    equal = sum((Counter(a) & Counter(b)).total() for a, b in of)
    pairs = sum(min(len(a), len(b)) for a, b in of)
    assert (one.equal, one.differing) == (equal, pairs - equal)
    assert one.only_here == sum(max(0, len(a) - len(b)) for a, b in of)
    assert one.only_there == sum(max(0, len(b) - len(a)) for a, b in of)
    assert one.here - one.only_here == one.there - one.only_there == pairs
    assert sum(one.fields.values()) >= one.differing
    assert set(one.fields) <= {"key", "ts", WHOLE}


@given(causes, st.integers(0, 6))
def test_it_matters_not_where_the_streams_are_cut(
    of: list[tuple[list[Pair], list[Pair]]], at: int
) -> None:
    here, there = outputs([a for a, _ in of]), outputs([b for _, b in of])
    whole, parts = Comparison(1), Comparison(1)
    whole.add(here, there)
    for before in (True, False):
        parts.add(*([w for w in side if (w.cause < at) is before] for side in (here, there)))
    assert parts.sinks == whole.sinks
    back = Comparison(1)
    back.add(there, here)
    assert (back.sinks[0].equal, back.sinks[0].differing, back.sinks[0].only_here) == (
        whole.sinks[0].equal, whole.sinks[0].differing, whole.sinks[0].only_there,
    )  # fmt: skip


def test_sinks_are_apart_and_the_fields_that_differ_are_named() -> None:
    found = Comparison(2)
    mine = [Written(0, 0, b"a", VALUES[1], 5), Written(1, 0, b"a", VALUES[1], 5)]
    theirs = [Written(0, 1, b"b", VALUES[2], 5), Written(1, 0, b"a", VALUES[1], 6)]
    found.add(mine, theirs)
    assert found.sinks[0].fields == {"key": 1, "to": 1, "ts": 1}
    assert (found.sinks[1].only_here, found.sinks[1].only_there) == (1, 1)


@given(some, some, st.integers(0, 20))
def test_what_is_expected_is_found_as_often_as_it_should_be(
    mine: list[Pair], log: list[Pair], at: int
) -> None:
    expected = Expected()
    for one in mine:
        expected.add(*one)
    expected.look(log[:at])
    expected.look(log[at:])
    assert expected.found == (Counter(mine) & Counter(log)).total()
    if set(Counter(log).values()) <= {1}:
        assert expected.complete == (len(mine) == 0 or expected.found == len(mine))


def test_of_very_many_a_sample_is_looked_for() -> None:
    expected, every = Expected(100), [(b"%d" % (k % 7), b"v%d" % k) for k in range(5_000)]
    for one in every:
        expected.add(*one)
    assert 20 < len(expected) <= 100
    expected.look(every[:2_500])
    half = expected.found
    expected.look([(b"9", b"nobody's"), *every[2_500:]])
    assert 0 < half < expected.found == len(expected) and expected.complete
