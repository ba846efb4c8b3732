"""Whether a log is the one that was read: what goes on behind old records has what the log has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.recall import trail
from agents.recall.trail import GoneError, Mark, Trails, mark_of

Record = tuple[int, int, int]  # offset, key, value


class Log:
    """A partition that is written to, compacted and restored. Each value is another one."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.end = self.values = 0

    def write(self, key: int) -> None:
        self.values += 1
        self.records.append((self.end, key, self.values))
        self.end += 1

    def compact(self, keep: st.DrawFn) -> None:
        newest = {key: offset for offset, key, _ in self.records}
        self.records = [r for r in self.records if newest[r[1]] == r[0] or keep(st.booleans())]


def mark(record: Record) -> Mark:
    return mark_of(record[0], b"%d" % record[1], b"%d" % record[2], 0)


def follow(trails: Trails, held: dict[int, int], log: Log, upto: int, low: int = 0) -> None:
    """Read a log to its end, as a replica does. GoneError."""
    start = trails.begin(0, low, upto)
    for record in log.records:
        if record[0] >= start and trails.new(0, mark(record)):
            held[record[1]] = record[2]
    trails.ended(0, log.end)
    trails.settle({0: log.end}, {0: log.end})
    assert trails.proved


@given(st.data())
def test_what_is_believed_is_what_the_log_has(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trail, "KEPT", data.draw(st.sampled_from([1, 2, 64])))
        believed(data)


def believed(data: st.DataObject) -> None:
    log, held, trails = Log(), dict[int, int](), Trails()
    keys = st.lists(st.integers(0, 5), max_size=12)
    for key in data.draw(keys):
        log.write(key)
    back, back_to = list(log.records), log.end
    for key in data.draw(keys):
        log.write(key)
    log.compact(data.draw) if data.draw(st.booleans()) else None
    follow(trails, held, log, 0)
    read_to = log.end
    if restored := data.draw(st.booleans()):
        log.records, log.end = back, back_to
    for key in data.draw(keys):
        log.write(key)
    log.compact(data.draw)
    again = Trails({0: [Mark(*one) for one in trails.kept.get(0, ())]})
    try:
        follow(again, held, log, read_to)
    except GoneError:
        if restored:
            return
        # The same log is believed, unless all that was read last is compacted.
        assert not {r[0] for r in log.records} & {one.offset for one in trails.kept[0]}
    else:
        assert held == {key: value for _, key, value in log.records}


def told(*records: Record) -> Trails:
    return Trails({0: [mark(one) for one in records]})


def log_of(*records: Record) -> Log:
    log = Log()
    log.records, log.end = [*records], records[-1][0] + 1 if records else 0
    return log


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (log_of((0, 1, 1), (1, 2, 9)), "partition 0 has another record at offset 1"),
        (log_of((0, 1, 1), (2, 2, 2)), "partition 0 has another record at offset 2"),
        (log_of((0, 1, 1)), "partition 0 ends at 1, and was read to 3"),
        (log_of((0, 1, 1), (5, 7, 7)), "partition 0 lacks the record at offset 1"),
        (log_of((5, 2, 7)), "has none of the 2 records that were read last, from offset 0 to 1"),
    ],
)
def test_another_log_is_named(log: Log, why: str) -> None:
    with pytest.raises(GoneError, match=why):
        follow(told((0, 1, 1), (1, 2, 2)), {}, log, 3)


def test_what_was_compacted_is_owed_until_its_newer_record_comes() -> None:
    follow(told((0, 1, 1), (1, 2, 2)), {}, log_of((0, 1, 1), (5, 2, 7)), 3)


def test_where_there_were_but_markers_a_record_is_another_log() -> None:
    follow(Trails(), {}, log_of((4, 1, 1)), 3)
    with pytest.raises(GoneError, match="offset 2"):
        follow(Trails(), {}, log_of((2, 1, 1), (4, 1, 1)), 3)


def test_the_last_ones_are_kept_and_the_time_is_of_them() -> None:
    trails = Trails()
    for k in range(trail.KEPT + 9):
        assert trails.new(0, mark((k, k, k)))
    assert [one.offset for one in trails.kept[0]] == [*range(9, trail.KEPT + 9)]
    assert mark_of(0, b"k", b"", 1) != mark_of(0, b"k", None, 1)
    assert mark_of(0, b"k", b"v", 1) != mark_of(0, b"k", b"v", 2)
    assert mark_of(0, b"k", b"v", 1) != mark_of(0, b"kv", b"", 1)
