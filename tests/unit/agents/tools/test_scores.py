"""The metrics against worked examples, brute force, and ruptures where it has an equal."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.scores import covering, f1, matches, score, segments

N = 60
cuts = st.sets(st.integers(0, N - 1), max_size=8)
labels = st.dictionaries(st.sampled_from("abc"), cuts, min_size=1)


# Worked examples of the benchmark's authors (its code's tests), as facts.
@pytest.mark.parametrize(
    ("annotated", "found", "wanted"),
    [
        ([[10, 20], [11, 20], [10], [0, 5]], [10, 20], 1.0),
        ([[], [10], [50]], [10], 10 / 11),
        ([[], [10], [50]], [], 0.8),
    ],
)
def test_f1_of_worked_examples(annotated: list[list[int]], found: list[int], wanted: float) -> None:
    assert f1({str(k): one for k, one in enumerate(annotated)}, found)[0] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("annotated", "found", "wanted"),
    [
        ([[10, 20], [10], [0, 5]], [10, 20], 0.7962962962962963),
        ([[], [10], [40]], [10], 0.7954144620811286),
        ([[], [10], [40]], [], 0.8189300411522634),
    ],
)
def test_covering_of_worked_examples(
    annotated: list[list[int]], found: list[int], wanted: float
) -> None:
    labelled = {str(k): one for k, one in enumerate(annotated)}
    assert covering(labelled, found, 45) == pytest.approx(wanted, abs=1e-12)


def test_a_found_location_is_taken_once_and_by_the_nearest() -> None:
    assert matches([10, 12], [11], 5) == {10: 11}
    assert matches([10], [6, 14], 5) == {10: 6}  # a tie: the lower
    assert matches([10], [16], 5) == {}
    assert len(matches({1, 10, 20, 23}, {1, 3, 5, 8, 20})) == 3


@given(labels, cuts)
def test_covering_is_its_definition(annotated: dict[str, set[int]], found: set[int]) -> None:
    def sets(locations: set[int]) -> list[set[int]]:
        return [set(range(a, b)) for a, b in segments(locations, N)]

    wanted = sum(
        sum(len(A) * max(len(A & B) / len(A | B) for B in sets(found)) for A in sets(own)) / N
        for own in annotated.values()
    ) / len(annotated)
    assert covering(annotated, found, N) == pytest.approx(wanted)


@given(labels, cuts)
def test_scores_lie_in_their_ranges(annotated: dict[str, set[int]], found: set[int]) -> None:
    one = score(annotated, [(cut, cut + 3) for cut in sorted(found)], N)
    assert 0.0 < one.f1 <= 1.0
    assert 0.0 < one.covering <= 1.0
    assert 0 <= one.false_boundaries <= one.found == len(found - {0})
    assert one.false_per_1000 == pytest.approx(1000 * one.false_boundaries / N)
    own = {"a": annotated[min(annotated)]}
    perfect = score(own, [(cut, cut) for cut in own["a"]], N)
    assert (perfect.f1, perfect.covering, perfect.false_boundaries) == (1.0, 1.0, 0)


def test_delay_counts_from_the_label_to_the_declaration() -> None:
    one = score({"a": [20, 40]}, [(22, 30), (39, 45), (50, 51)], N)
    assert (one.delay_median, one.false_boundaries, one.found) == (7.5, 1, 3)
    assert score({"a": [20]}, [], N).delay_median is None


def test_a_score_needs_labels_and_points() -> None:
    for call in (
        lambda: covering({}, [], 5),
        lambda: f1({}, []),
        lambda: covering({"a": []}, [], 0),
    ):
        with pytest.raises(ValueError, match="at least one"):
            call()


@given(cuts, st.lists(st.sampled_from([-7, -4, 0, 3, 6]), min_size=8, max_size=8))
def test_matches_agree_with_ruptures_where_no_two_labels_compete(
    places: set[int], moves: list[int]
) -> None:
    """ruptures.metrics.precision_recall: margins are open, the end of the series is listed."""
    metrics = pytest.importorskip("ruptures.metrics", reason="ruptures isn't installed")
    truth = [20 * (k + 1) for k in range(8) if k in {place % 8 for place in places}]
    found = [one + move for one, move in zip(truth, itertools.cycle(moves), strict=False)]
    if not truth:
        return
    precision, recall = metrics.precision_recall([*truth, 200], [*found, 200], margin=6)
    taken = matches(truth, found, 5)
    assert len(taken) / len(found) == pytest.approx(precision)
    assert len(taken) / len(truth) == pytest.approx(recall)
