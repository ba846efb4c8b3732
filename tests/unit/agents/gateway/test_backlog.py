"""Under any interleaving of readers, deliveries, open circuits and crashes: all, in order."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.gateway.backlog import Backlog

TENANTS = ("a", "b", "c", "d")


class World:
    """A log, a backlog over it, and a receiver that knows each event by its offset."""

    def __init__(self, log: list[str], lane_max: int) -> None:
        self.log = log
        self.lane_max = lane_max
        self.backlog: Backlog[str] = Backlog(0, {}, lane_max)
        self.at = 0  # of the pass
        self.got: dict[str, list[int]] = defaultdict(list)  # as the receiver keeps them: once

    def main(self, count: int, room: bool) -> None:
        for offset in range(
            self.backlog.next_offset, min(len(self.log), self.backlog.next_offset + count)
        ):
            if self.log[offset] == "control":
                self.backlog.pass_over(offset)
            else:
                self.backlog.offer(self.log[offset], offset, f"event {offset}", room)

    def begin(self, members: set[str]) -> None:
        self.backlog.begin(members)
        self.at = self.backlog.scan_from()

    def scan(self, count: int, most: int) -> None:
        """As the gateway does: a chunk, of which only what the main reader has passed counts."""
        if not self.backlog.scanning:
            return
        self.at = max(self.at, self.backlog.scan_from())
        end = min(self.at + count, self.backlog.next_offset)
        for offset in range(self.at, end):
            self.backlog.again(self.log[offset], offset, f"event {offset}", most)
        self.backlog.scanned(end)
        self.at = end

    def deliver(self, tenant: str) -> None:
        head = self.backlog.head(tenant)
        if head is None:
            return
        offset, event = head
        assert event == f"event {offset}"
        if offset not in self.got[tenant]:
            self.got[tenant].append(offset)
        self.backlog.done(tenant)

    def crash(self) -> None:
        self.backlog = Backlog(self.backlog.next_offset, self.backlog.undelivered(), self.lane_max)

    def whole(self, tenant: str) -> list[int]:
        return [offset for offset, name in enumerate(self.log) if name == tenant]

    def check(self) -> None:
        backlog = self.backlog
        assert backlog.queued == sum(map(len, backlog.lanes.values()))
        assert backlog.scanning <= backlog.behind.keys()
        first = backlog.undelivered()
        for tenant in TENANTS:
            whole, got = self.whole(tenant), self.got[tenant]
            assert got == whole[: len(got)], "out of order, or with a gap"
            assert len(backlog.lanes.get(tenant, ())) <= self.lane_max
            # What the state would say of the receiver is true of it.
            upto = first.get(tenant, backlog.next_offset)
            assert {offset for offset in whole if offset < upto} <= set(got)


STEPS = st.one_of(
    st.tuples(st.just("main"), st.integers(1, 6), st.booleans()),
    st.tuples(st.just("begin"), st.sets(st.sampled_from(TENANTS)), st.none()),
    st.tuples(st.just("scan"), st.integers(1, 6), st.integers(1, 3)),
    st.tuples(st.just("deliver"), st.sampled_from(TENANTS), st.none()),
    st.tuples(st.just("park"), st.sampled_from(TENANTS), st.none()),
    st.tuples(st.just("crash"), st.none(), st.none()),
)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from([*TENANTS, "control"]), max_size=40),
    st.integers(1, 4),
    st.lists(STEPS, max_size=60),
)
def test_every_event_once_in_order_whatever_happens(
    log: list[str], lane_max: int, steps: list[tuple[str, object, object]]
) -> None:
    world = World(log, lane_max)
    for what, first, second in steps:
        if what == "crash":
            world.crash()
        elif what == "begin":
            world.begin(first)  # type: ignore[arg-type]
        elif what in ("deliver", "park"):
            (world.deliver if what == "deliver" else world.backlog.park)(first)  # type: ignore[arg-type]
        else:
            (world.main if what == "main" else world.scan)(first, second)  # type: ignore[arg-type]
        world.check()
    for _ in range(4 * len(log) + 4):  # and then everything works: all of it arrives
        world.main(10, True)
        world.begin(set(world.backlog.behind))
        for _ in range(3):
            world.scan(50, 3)
        for tenant in TENANTS:
            world.deliver(tenant)
        world.check()
    assert all(world.got[tenant] == world.whole(tenant) for tenant in TENANTS)
    assert world.backlog.undelivered() == {} and world.backlog.next_offset == len(log)


def test_a_parked_tenant_takes_no_memory_and_no_other_waits() -> None:
    backlog: Backlog[str] = Backlog(0, {}, 10)
    backlog.offer("a", 0, "x")
    backlog.offer("b", 1, "y")
    backlog.park("a")
    for offset in range(2, 1000):
        assert not backlog.offer("a", offset, "x")
    assert backlog.queued == 1 and backlog.offer("b", 1000, "z")
    assert backlog.undelivered() == {"a": 0, "b": 1}


def test_a_tenant_that_leaves_a_pass_is_not_queued_by_it_again() -> None:
    backlog: Backlog[str] = Backlog(10, {"a": 0}, 10)
    backlog.begin(["a"])
    assert backlog.again("a", 2, "x", 10)
    backlog.park("a")
    assert not backlog.again("a", 5, "x", 10) and backlog.behind == {"a": 2}
