import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.settings import ProjectionSettings
from agents.tables.sampling import Sampling, Sieve, parse

Sent = list[tuple[bytes, int]]  # key, log time; the offset is the place in the list


def test_rules() -> None:
    assert parse("off") is None
    assert parse("all") == Sampling()
    assert parse("1/10") == Sampling(every=10)
    assert parse("500ms") == Sampling(interval_ms=500)
    assert parse("2s") == Sampling(interval_ms=2000)
    assert parse(ProjectionSettings().history) == Sampling(interval_ms=1000)


@pytest.mark.parametrize("wrong", ["", "1", "0s", "1/0", "2/3", "1 s", "1m", "-1s", "all "])
def test_wrong_rules_are_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="500ms"):
        parse(wrong)
    with pytest.raises(ValueError, match="history"):
        ProjectionSettings(history=wrong)


def store(rule: Sampling, sent: Sent, forgets: set[int]) -> dict[tuple[bytes, int, int], int]:
    """What a store that keeps the first of each slot holds: slot -> offset."""
    sieve = Sieve(rule)
    held: dict[tuple[bytes, int, int], int] = {}
    for offset, (key, log_ms) in enumerate(sent):
        if offset in forgets:
            sieve.forget()
        if sieve.takes(key, log_ms, offset):
            held.setdefault((key, *rule.slot(log_ms, offset)), offset)
    return held


sends = st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 40)), max_size=40)


@given(sends, st.sampled_from(["all", "1/3", "10ms"]), st.sets(st.integers(0, 39)))
def test_samples_depend_on_the_topic_alone(sent: Sent, said: str, forgets: set[int]) -> None:
    rule = parse(said)
    assert rule is not None
    assert store(rule, sent, forgets) == store(rule, sent, set())


@given(sends)
def test_an_interval_keeps_the_first_of_a_tenant(sent: Sent) -> None:
    first: dict[tuple[bytes, int], int] = {}
    for offset, (key, log_ms) in enumerate(sent):
        first.setdefault((key, log_ms // 10), offset)
    held = store(Sampling(interval_ms=10), sent, set())
    assert sorted(held.values()) == sorted(first.values())


@given(sends)
def test_every_nth_is_by_offset(sent: Sent) -> None:
    held = store(Sampling(every=3), sent, set())
    assert sorted(held.values()) == list(range(0, len(sent), 3))
