"""A tenant's rate in one process: token buckets. Pure: the time is an argument."""

from collections import OrderedDict

TENANTS_MAX = 10_000


class Buckets:
    """`rate` tokens a second each, `burst` at most. The longest unused leave when there are many.

    A bucket that leaves comes back full: `tenants_max` bounds the memory, at that price.
    """

    def __init__(self, rate: float, burst: float, tenants_max: int = TENANTS_MAX) -> None:
        self._rate, self._burst, self._most = rate, burst, tenants_max
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def take(self, tenant: str, cost: float, now: float) -> float:
        """Take `cost` tokens: 0.0, or (nothing taken) the seconds until there will be enough.

        A cost above the burst is taken from a full bucket, which then owes the rest: else it could
        never pass.
        """
        tokens, at = self._held.pop(tenant, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - at) * self._rate)
        needed = min(cost, self._burst)
        wait = 0.0 if tokens >= needed else (needed - tokens) / self._rate
        self._held[tenant] = (tokens - cost if wait == 0.0 else tokens, max(now, at))
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return wait
