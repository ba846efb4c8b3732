"""What is read and not delivered, of one partition: the pure bookkeeping of two readers.

The main reader goes through the log once. It queues a tenant's events in a lane, up to a limit;
a tenant whose lane is full or whose circuit is open is `behind`: its events are only noted, by the
first offset that its lane lacks. A second reader, a pass, looks through the log again for those
behind, and a tenant that it has brought up to the main reader's place joins the main flow.

Invariant: a lane holds, without a gap, the tenant's events from its first undelivered one up to
`behind[tenant]`, or up to `next_offset` for a tenant that isn't behind.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

E = TypeVar("E")


class Backlog(Generic[E]):
    """One partition from the moment that its state is read. For one thread."""

    def __init__(
        self,
        next_offset: int,
        behind: Mapping[str, int],
        lane_max: int,
        size: Callable[[E], int] = lambda _: 1,
    ) -> None:
        """`next_offset`: where the main reader goes on; `behind`: tenant -> first undelivered.

        A lane holds at most `lane_max` events; `size` gives an event's bytes.
        """
        self.next_offset = next_offset
        self.behind = dict(behind)
        self.lanes: dict[str, deque[tuple[int, E]]] = {}
        self.scanning: set[str] = set()  # behind, and members of the pass that runs
        self.queued = 0  # events in all lanes
        self.queued_bytes = 0
        self.changed = True  # since the state was last written; for the caller to take back
        self._lane_max = lane_max
        self._size = size

    def offer(self, tenant: str, offset: int, event: E, room: bool = True) -> bool:
        """The main reader is here; returns whether the event is queued. Without room it is not."""
        self.pass_over(offset)
        if tenant in self.behind:
            return False
        if not room or len(self.lanes.get(tenant, ())) >= self._lane_max:
            self.behind[tenant] = offset
            return False
        self._append(tenant, offset, event)
        return True

    def pass_over(self, offset: int) -> None:
        """The main reader is here, at a record that nobody needs."""
        assert offset >= self.next_offset, "the main reader went back"
        self.next_offset = offset + 1
        self.changed = True

    def head(self, tenant: str) -> tuple[int, E] | None:
        """The event to deliver next: (offset, event)."""
        lane = self.lanes.get(tenant)
        return lane[0] if lane else None

    def done(self, tenant: str) -> None:
        """The head is delivered."""
        lane = self.lanes[tenant]
        self._left(lane.popleft()[1])
        if not lane:
            del self.lanes[tenant]

    def park(self, tenant: str) -> None:
        """Keep only the place of what is undelivered: the circuit is open."""
        self.scanning.discard(tenant)
        if lane := self.lanes.pop(tenant, None):
            self.behind[tenant] = lane[0][0]
            for _, event in lane:
                self._left(event)

    def begin(self, members: Iterable[str]) -> None:
        """A pass begins, for these of the tenants behind."""
        self.scanning = set(members) & self.behind.keys()

    def scan_from(self) -> int:
        """Where the pass is to read next: nothing before it is wanted by its members."""
        return min((self.behind[tenant] for tenant in self.scanning), default=self.next_offset)

    def again(self, tenant: str, offset: int, event: E, most: int) -> bool:
        """The pass is here; returns whether the event is queued. A full lane ends its membership.

        `most`: events that the lane may hold.
        """
        if tenant not in self.scanning or offset < self.behind[tenant]:
            return False
        if len(self.lanes.get(tenant, ())) >= min(most, self._lane_max):
            self.behind[tenant] = offset
            self.scanning.discard(tenant)
            return False
        self._append(tenant, offset, event)
        self.behind[tenant] = offset + 1
        return True

    def scanned(self, upto: int) -> None:
        """The pass has seen all before this offset, from `scan_from` on; who is there joins."""
        upto = min(upto, self.next_offset)
        for tenant in list(self.scanning):
            if self.behind[tenant] < upto:
                self.behind[tenant] = upto
            if self.behind[tenant] >= self.next_offset:
                del self.behind[tenant]
                self.scanning.discard(tenant)
                self.changed = True

    def undelivered(self) -> dict[str, int]:
        """Tenant -> its first undelivered offset, of all that have one (or may have one)."""
        return self.behind | {tenant: lane[0][0] for tenant, lane in self.lanes.items()}

    def _append(self, tenant: str, offset: int, event: E) -> None:
        self.lanes.setdefault(tenant, deque()).append((offset, event))
        self.queued += 1
        self.queued_bytes += self._size(event)

    def _left(self, event: E) -> None:
        self.queued -= 1
        self.queued_bytes -= self._size(event)
        self.changed = True
