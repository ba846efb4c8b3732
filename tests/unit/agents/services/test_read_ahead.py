from dataclasses import dataclass

from agents.services.read_ahead import ReadAhead


@dataclass(frozen=True)
class Record:
    """The part of confluent_kafka.Message that is read."""

    partition_: int
    offset_: int

    def partition(self) -> int:
        return self.partition_

    def offset(self) -> int:
        return self.offset_


def test_records_leave_once_in_order_and_lost_partitions_are_named_once() -> None:
    read_ahead = ReadAhead()
    records = [Record(p, o) for o in range(3) for p in (0, 1)]
    for record in records:
        read_ahead.add(record)  # type: ignore[arg-type]
    assert read_ahead and read_ahead.upto == {0: 3, 1: 3}
    read_ahead.drop({1})
    assert read_ahead.messages() == [record for record in records if record.partition_ == 0]
    assert not read_ahead and read_ahead.messages() == []
    assert read_ahead.gone() == {1} and read_ahead.gone() == set()
