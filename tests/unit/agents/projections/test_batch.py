from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from agents.projections.batch import Every, Waiting


def message(partition: int, offset: int, key: bytes | None) -> Message:
    return Message(topic="t", partition=partition, offset=offset, key=key, value=b"v")


keys = st.sampled_from([b"a", b"b", b"c", None])


@given(st.lists(st.tuples(st.integers(0, 2), keys), max_size=30), st.sets(st.integers(0, 2)))
def test_the_last_of_each_tenant_and_the_next_offset_of_each_partition(
    records: list[tuple[int, bytes | None]], gone: set[int]
) -> None:
    waiting = Waiting()
    # A tenant lives in one partition.
    home = {b"a": 0, b"b": 1, b"c": 1}
    placed = [(home.get(key, p) if key else p, key) for p, key in records]
    for offset, (partition, key) in enumerate(placed):
        waiting.add(message(partition, offset, key))
    last = {key: k for k, (_, key) in enumerate(placed) if key is not None}
    keyless = [k for k, (_, key) in enumerate(placed) if key is None]
    assert sorted(m.offset() or 0 for m in waiting.records()) == sorted([*last.values(), *keyless])
    assert waiting.replaced + len(last) + len(keyless) == len(records)
    assert waiting.upto == {p: k + 1 for k, (p, _) in enumerate(placed)}
    waiting.drop(gone)
    assert all(m.partition() not in gone for m in waiting.records())
    assert not gone & set(waiting.upto)
    assert bool(waiting) == bool({p for p, _ in placed} - gone)
    waiting.take()
    assert not waiting and not waiting.records()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=30),
    st.sets(st.integers(0, 2)),
)
def test_every_wanted_record_in_order(records: list[tuple[int, bool]], gone: set[int]) -> None:
    forgotten: list[None] = []
    wanted = {offset for offset, (_, want) in enumerate(records) if want}
    waiting = Every(lambda m: m.offset() in wanted, lambda: forgotten.append(None))
    for offset, (partition, _) in enumerate(records):
        waiting.add(message(partition, offset, b"a"))
    assert [m.offset() for m in waiting.records()] == sorted(wanted)
    assert waiting.replaced == len(records) - len(wanted)
    assert waiting.upto == {p: offset + 1 for offset, (p, _) in enumerate(records)}
    waiting.drop(gone)
    assert forgotten, "what was dropped is asked for again"
    kept = [k for k in sorted(wanted) if records[k][0] not in gone]
    assert [m.offset() for m in waiting.records()] == kept
    assert not gone & set(waiting.take())
    assert not waiting and not waiting.records()
