from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from agents.tables.batch import Every, Waiting
from topics import codec
from topics.schemas import schemas

FRAMES = codec.headers("global_frame")
OURS = codec.header(schemas().schema_id("global_frame"))
SETTING = min(codec.control_headers())
OTHERS = [b"", b"v", codec.header(1), codec.header(65_535)]  # no schema, another's, nobody's


def message(partition: int, offset: int, key: bytes | None, value: bytes | None = OURS) -> Message:
    return Message(topic="t", partition=partition, offset=offset, key=key, value=value)


HOME = {b"a": 0, b"b": 1, b"c": 1}  # a tenant lives in one partition
keys = st.sampled_from([b"a", b"b", b"c", None])
values = st.sampled_from([OURS, OURS, OURS, SETTING, *OTHERS, None])
records_of = st.lists(st.tuples(st.integers(0, 2), keys, values), max_size=30)


@given(records_of, st.sets(st.integers(0, 2)))
def test_the_last_of_each_tenant_and_the_next_offset_of_each_partition(
    records: list[tuple[int, bytes | None, bytes | None]], gone: set[int]
) -> None:
    waiting = Waiting(FRAMES)
    placed = [(HOME.get(key, p) if key else p, key, value) for p, key, value in records]
    for offset, (partition, key, value) in enumerate(placed):
        waiting.add(message(partition, offset, key, value))
    last = {key: k for k, (_, key, value) in enumerate(placed) if key and value == OURS}
    settings = [k for k, (_, _, value) in enumerate(placed) if value == SETTING]
    apart = [
        k
        for k, (_, key, value) in enumerate(placed)
        if value != SETTING and (key is None or value != OURS)
    ]
    assert sorted(m.offset() or 0 for m in waiting.records()) == sorted([*last.values(), *apart])
    assert waiting.control == len(settings)
    assert waiting.replaced + len(last) + len(apart) + len(settings) == len(records)
    assert waiting.upto == {p: k + 1 for k, (p, _, _) in enumerate(placed)}
    waiting.drop(gone)
    assert all(m.partition() not in gone for m in waiting.records())
    assert not gone & set(waiting.upto)
    assert bool(waiting) == bool({p for p, _, _ in placed} - gone)
    waiting.take()
    assert not waiting and not waiting.records()
    assert waiting.replaced == waiting.control == 0


def test_a_setting_after_a_frame_leaves_the_frame_and_moves_the_position() -> None:
    waiting = Waiting(FRAMES)
    waiting.add(message(0, 0, b"a"))
    waiting.add(message(0, 1, b"a", SETTING))
    assert [m.offset() for m in waiting.records()] == [0]
    assert waiting.take() == {0: 2}
    waiting.add(message(0, 2, b"a", SETTING))
    assert waiting and not waiting.records(), "the position moves without a record"


@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), values), max_size=30),
    st.sets(st.integers(0, 2)),
)
def test_every_wanted_record_in_order(
    records: list[tuple[int, bool, bytes | None]], gone: set[int]
) -> None:
    forgotten: list[None] = []
    asked: list[int] = []

    def wanted(one: Message) -> bool:
        asked.append(one.offset() or 0)
        return records[asked[-1]][1]

    waiting = Every(FRAMES, wanted, lambda: forgotten.append(None))
    for offset, (partition, _, value) in enumerate(records):
        waiting.add(message(partition, offset, b"a", value))
    frames = [k for k, (_, _, value) in enumerate(records) if value == OURS]
    assert asked == frames, "what is no frame is no sample, and takes no sample's place"
    kept = [
        k
        for k, (_, want, value) in enumerate(records)
        if value != SETTING and (want or value != OURS)
    ]
    assert [m.offset() for m in waiting.records()] == kept
    assert waiting.control == sum(value == SETTING for _, _, value in records)
    assert waiting.replaced == len(records) - len(kept) - waiting.control
    assert waiting.upto == {p: offset + 1 for offset, (p, _, _) in enumerate(records)}
    waiting.drop(gone)
    assert forgotten, "what was dropped is asked for again"
    kept = [k for k in kept if records[k][0] not in gone]
    assert [m.offset() for m in waiting.records()] == kept
    assert not gone & set(waiting.take())
    assert not waiting and not waiting.records()
