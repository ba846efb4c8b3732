from dataclasses import dataclass

from agents.gateway.inbox import Inbox


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
    inbox = Inbox()
    records = [Record(p, o) for o in range(3) for p in (0, 1)]
    for record in records:
        inbox.add(record)  # type: ignore[arg-type]
    assert inbox and inbox.upto == {0: 3, 1: 3}
    inbox.drop({1})
    assert inbox.messages() == [record for record in records if record.partition_ == 0]
    assert not inbox and inbox.messages() == []
    assert inbox.gone() == {1} and inbox.gone() == set()
