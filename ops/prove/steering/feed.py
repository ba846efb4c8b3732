"""What steers, mixed into the feed: changes of settings, policies, sleeps, canaries; and rewards.

All but rewards is deterministic, as the feed is. Those are of frames, whose ids only the log knows:
`rewards.py` finds them, and hands them in.
"""

from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any

from ops.prove.feed import FRAMES, OBSERVATIONS, SETTINGS, START_MICROS, UPDATES, Event, Feed
from ops.prove.partitions import home
from ops.prove.rowlaw import SEPARATOR
from ops.prove.steering import canary, control, sleep
from ops.prove.wire import UnreadableError, Wire

OWNERS = {OBSERVATIONS: "predictors", UPDATES: "integrator", FRAMES: "segmentation"}
LEARNERS = range(5, 10)  # numbers of the tenants that learn
SHARE = 0.025  # of what is published
ODD = 0.02  # of that is misrouted, and as much is bad
REFUSED = (
    ("integrator", "no_such", "1"), ("integrator", "margin", "7"), ("predictors", "alpha", "fast"),
    ("integrator", "alpha", "-1"), ("nobody", "alpha", "1"), ("integrator", "policy", "allow {"),
)  # fmt: skip
NEVER = """package soma.policy.integrator

default allow := true

allow := false if input.candidate.leader == "extra"

rationale := "extra never leads" if input.candidate.leader == "extra"
"""
INSTEAD = """package soma.policy.integrator

default allow := true

leader := "state" if input.candidate.leader == "extra"
"""
COURSE: dict[int, tuple[int, str, str, str]] = {
    **{k: (n, "lessons", "learning", "on") for k, n in enumerate(LEARNERS, 1)},
    **{k + 10: (n, "learner", "every_s", "0.5") for k, n in enumerate(LEARNERS)},
    **{k + 20: (n, "learner", "wait_s", "1") for k, n in enumerate(LEARNERS) if n % 2},
    30: (5, "integrator", "policy", NEVER), 31: (0, "integrator", "policy", INSTEAD),
    150: (1, "integrator", "policy", NEVER), 200: (0, "integrator", "policy", ""),
    250: (5, "integrator", "policy", INSTEAD), 300: (0, "integrator", "policy", NEVER),
}  # fmt: skip
TRIED = (("integrator.margin", "0.2"), ("segmentation.gradient", "0.5"), ("predictors.alpha", "3"))
FIRST_SECOND = 4_000_000_000  # of blocks: later than those that the service measures
SLEEPS = ("light", "light", "deep", "freeze", "active")


class Steered:
    """Iterates over the feed's events with those among them, for ever."""

    def __init__(self, feed: Feed, seed: int, wire: Wire) -> None:
        self.feed, self.wire, self.random = feed, wire, Random(seed + 1)
        self.rewards: deque[Event] = deque()
        self.learners = [feed.tenants[n] for n in LEARNERS]
        self.count = self.requests = self.canaries = 0
        self._second = FIRST_SECOND
        self._script: deque[tuple[str, str, dict[str, Any]]] = deque()

    def __iter__(self) -> Iterator[Event]:
        plain = iter(self.feed)
        while True:
            if self.rewards:
                yield self.rewards.popleft()
            elif self.random.random() < SHARE:
                yield self._odd(self._next())
            elif not self._theirs(event := next(plain)):
                yield event

    def _theirs(self, event: Event) -> bool:
        """Whether it is a user's frame of a learner: ids of frames are to rise."""
        if event.topic != FRAMES or (event.key or b"").decode() not in self.learners:
            return False
        try:
            return self.wire.decode(event.value, "global_frame")[0] == "global_frame"
        except UnreadableError:
            return False

    def _next(self) -> Event:
        self.count += 1
        if self.count in COURSE:
            number, owner, setting, value = COURSE[self.count]
            return self._update(self.feed.tenants[number], owner, setting, value)
        draw, tenant = self.random.random(), self.random.choice(self.feed.tenants)
        if draw < 0.4:
            return self._request(tenant)
        if draw < 0.7:
            return self._canary()
        if draw < 0.75:
            return self._update(tenant, *self.random.choice(REFUSED))
        topic = self.random.choice(tuple(OWNERS))
        setting, value = self.random.choice(SETTINGS[topic])
        tenant = "*" if self.random.random() < 0.05 else tenant
        expected = self.random.choice((None, None, None, "", "on"))
        return self._update(tenant, OWNERS[topic], setting, value, expected)

    def _event(self, topic: str, schema: str, tenant: str, record: dict[str, Any]) -> Event:
        value = self.wire.encode(schema, record)
        return Event(topic, home(tenant, self.feed.partitions), tenant.encode(), value)

    def _update(
        self, tenant: str, owner: str, setting: str, value: str, expected: str | None = None
    ) -> Event:
        record = {"tenant": tenant, "setting": setting, "value": value, "author": "prove",
                  "ts": START_MICROS, "processor": owner, "expected_version": None,
                  "expected_value": expected}  # fmt: skip
        event = self._event(control.UPDATES, "config_update", tenant, record)
        return event._replace(key=f"{tenant}{SEPARATOR}{owner}.{setting}".encode())

    def _request(self, tenant: str) -> Event:
        self.requests += 1
        target = "coma" if self.random.random() < 0.05 else self.random.choice(SLEEPS)
        asleep = target != "active"
        timed, wakes = self.random.random() < 0.7, self.random.random() < 0.5
        record = {
            "request_id": f"prove-{self.requests}", "tenant": tenant, "target": target,
            "kind": self.random.choice(("operator", "operator", "operator", "policy", "circuit")),
            "ttl_seconds": self.random.randint(1, 4) if asleep and timed else None,
            "wake_on_traffic": asleep and (wakes or not timed), "version": 0, "trace_id": None,
            "actor": self.random.choice(("", "prove")), "ts": START_MICROS,
        }  # fmt: skip
        return self._event(sleep.REQUESTS, "sleep_request", tenant, record)

    def _canary(self) -> Event:
        """The next step of the canary that is under way, or of another one."""
        if not self._script:
            self._script.extend(self._write_script())
        name, schema, record = self._script.popleft()
        return self._event(canary.COMMANDS, schema, name, {"name": name} | record)

    def _write_script(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        self.canaries += 1
        name, value = self.random.choice(TRIED)
        groups = self.random.sample(self.feed.tenants, 8)
        command = {
            "type": "start", "id": f"c{self.canaries}", "domain": "", "value": value,
            "tenants": groups[:3], "control": groups[3:], "for_s": 600, "actor": "prove",
            "ts": START_MICROS,
        }  # fmt: skip
        yield name, canary.COMMAND, command
        harm = self.random.choice((0.0, 0.0, 3.0, -3.0))
        for before, count in ((True, 20),) * 3 + ((False, 2),) * 8:
            yield name, canary.BLOCK, self._block(f"c{self.canaries}", before, count, harm)
        end = self.random.choice(("stop", "promote", "start"))
        yield name, canary.COMMAND, command | {"type": end}

    def _block(self, id_: str, before: bool, count: int, harm: float) -> dict[str, Any]:
        shift = 0.0 if before else harm
        first, self._second = self._second, self._second + count
        each = [self.random.gauss(shift, 1.0) for _ in range(count * len(canary.METRICS))]
        again = -1 if self.random.random() < 0.1 else 0  # told twice
        return {
            "id": id_, "before": before, "first": first + again * count,
            "last": self._second - 1 + again * count, "differences": each,
            "canary": [1.0] * 4, "control": [2.0] * 4, "spread": [0.01] * 4,
            "freedom": self.random.choice((0, 6)), "ts": START_MICROS,
        }  # fmt: skip

    def _odd(self, event: Event) -> Event:
        draw = self.random.random()
        if draw < ODD:
            return event._replace(value=b"\x01" + self.random.randbytes(20))
        if draw < 2 * ODD:
            return event._replace(partition=(event.partition + 1) % self.feed.partitions)
        return event
