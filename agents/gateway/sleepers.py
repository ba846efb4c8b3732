"""Which tenants of a partition the gateway has asked to sleep, for their circuits aren't closed.

An open circuit asks for freeze, half-open for light, and closed wakes: once for each change, by
requests of the kind circuit, which change no operator's sleep and wake only their own.

Nobody is forgotten, whoever dies when: the partition's row names a tenant before it is asked for,
and until its waking is written. So a new owner finds all that may be asleep; whose circuit isn't
open there, it wakes, and a tenant that is awake already takes no harm.

Nor is a tenant put to sleep by an owner that was overtaken, and stalled over it. An owner puts a
mark among a partition's rows before it reads them, and asks only once its row stands right behind
the last record that it knows there (`follows`). So a row that an earlier one asks by stands before
the mark, and is known to the later one; and what is asked by it comes with its time, which is
before that of all later rows: once the later one has asked about the tenant, the processor sleep
refuses it (`agents/sleep/law.py`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from agents.gateway.breakers import State
from agents.kit.asleep import ACTIVE, FREEZE, LIGHT, STATES

TARGETS: Mapping[State, str] = {
    "open": STATES[FREEZE], "half-open": STATES[LIGHT], "closed": STATES[ACTIVE],
}  # fmt: skip
KIND = "circuit"
ACTOR = "gateway"
Wish = tuple[str, str]  # a tenant, and the state asked for


class Sleepers:
    """Of one partition, from the moment that its row is read. Pure."""

    def __init__(self, asleep: Iterable[str] = (), end: int = 0) -> None:
        self._end = end  # where the next row comes to stand, unless somebody else writes
        self._asked = dict.fromkeys(asleep, TARGETS["open"])  # tenant -> what was asked for last
        self._wishes: list[Wish] = []
        self._out: Counter[str] = Counter()  # requests that aren't known to be written

    def __contains__(self, tenant: str) -> bool:
        return tenant in self._asked

    def names(self) -> frozenset[str]:
        """Whom the row must name."""
        return frozenset(self._asked)

    def asleep(self) -> list[str]:
        """Who isn't asked to wake yet."""
        return [one for one, target in self._asked.items() if target != TARGETS["closed"]]

    def change(self, tenant: str, state: State) -> None:
        """The tenant's circuit has come to be so."""
        target, before = TARGETS[state], self._asked.get(tenant, TARGETS["closed"])
        if target == before or (state == "half-open" and before == TARGETS["closed"]):
            return  # light is for who is frozen: it puts nobody to sleep
        self._asked[tenant] = target
        self._wishes.append((tenant, target))

    def follows(self, offset: int) -> bool:
        """A row was written there; whether nobody else has written since."""
        follows, self._end = offset == self._end, offset + 1
        return follows

    def take(self) -> list[Wish]:
        """What is to be asked once a row that has `names` is written, in order."""
        found, self._wishes = self._wishes, []
        self._out.update(tenant for tenant, _ in found)
        return found

    def written(self, tenant: str) -> bool:
        """A request for a tenant is written; whether the row needn't name it any more."""
        self._out[tenant] -= 1
        if self._out[tenant]:
            return False
        del self._out[tenant]
        if self._asked.get(tenant) != TARGETS["closed"] or tenant in dict(self._wishes):
            return False
        del self._asked[tenant]
        return True
