"""Who is named in the row of one partition of the gateway."""

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from agents.gateway.backlog import Backlog
from agents.gateway.partition import GatewayPartition
from agents.gateway.sleepers import Sleepers

names = st.sets(st.sampled_from("abcdefgh"))


@given(names, names, names)
def test_all_who_are_behind_or_asleep_are_counted_once(
    behind: set[str], lanes: set[str], asleep: set[str]
) -> None:
    backlog: Backlog[bytes] = Backlog(9, dict.fromkeys(behind, 1), 5, len)
    backlog.lanes = {one: deque([(3, b"event")]) for one in lanes}
    part = GatewayPartition(0, "", backlog, Sleepers(asleep))
    assert part.named() == len(behind | lanes | asleep)
    assert part.named() == len(backlog.undelivered().keys() | part.sleepers.names())
