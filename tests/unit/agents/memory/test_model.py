"""Any events in any order, with ticks and restarts between them, against a model of a page."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.coordinates import memory_id
from agents.kit import Driver
from agents.memory.agent import PROCESSOR
from agents.memory_rows import content_key, head_key
from tests.unit.agents.memory.latest import audit, latest
from tests.unit.agents.memory.samples import event

SECOND, HORIZON_S = 1_000_000, 60
AT = ("1", "2", "3")
IDS = {at: memory_id("a", at) for at in AT}


@dataclass
class Model:
    """What the law says, without versions of rows, digests, columns or a log."""

    memories: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)  # dedupe key -> known until
    wrote: dict[str, tuple[str, int]] = field(default_factory=dict)  # key -> id, content's version
    gone: int = -1

    def fold(self, e: dict[str, Any], now: int) -> str:
        """The reason, "" if it has an effect."""
        if e["dedupe_key"] and self.keys.get(e["dedupe_key"], 0) > now:
            return "duplicate"
        if e["dedupe_key"]:
            self.keys[e["dedupe_key"]] = now + HORIZON_S * SECOND
            self.wrote.pop(e["dedupe_key"], None)
        memory = self.memories.get(e["id"])
        alive = memory is not None and not memory["deleted"]
        if reason := self._refusal(e, memory, now):
            return reason
        wrote = self.wrote.get(e["expected_key"], ("", 0))
        by_key = e["expected_key"] and e["type"] == "linked"
        if by_key and memory is not None and wrote != (e["id"], memory["content"]):
            return "version"
        for other in e["links"]:
            found = self.memories.get(other)
            if e["type"] in ("created", "updated", "linked") and (not found or found["deleted"]):
                return "link"
        if not alive:
            version = memory["version"] if memory else 0
            memory = self.memories[e["id"]] = {
                "version": version, "links": {}, "count": 0, "deleted": False, "content": 0,
                "updated": e["ts"], "accessed": e["ts"],
            }  # fmt: skip
        assert memory is not None
        memory["version"] += 1
        self._change(memory, e, now)
        return ""

    def _refusal(self, e: dict[str, Any], memory: dict[str, Any] | None, now: int) -> str:
        expected = e["expected_version"]
        if memory is None:
            if e["type"] != "created":
                return "absent"
            if e["ts"] <= self.gone:
                return "late"
            return "version" if expected else ""
        if memory["deleted"]:
            if e["type"] != "created" or e["ts"] < memory["updated"]:
                return "deleted"
            return "version" if expected not in (None, 0, memory["version"]) else ""
        if e["ts"] < memory["updated"] and e["ts"] < now - HORIZON_S * SECOND:
            return "late"
        fits = expected is None or memory["content"] <= expected <= memory["version"]
        return "" if fits else "version"

    def _change(self, memory: dict[str, Any], e: dict[str, Any], now: int) -> None:
        type_ = e["type"]
        if type_ == "deleted":
            updated = max(memory["updated"], e["ts"])
            until = max(updated, now) + HORIZON_S * SECOND
            memory |= {"deleted": True, "updated": updated, "until": until, "count": 0, "links": {}}
        elif type_ == "accessed":
            memory["count"] += 1
            memory["accessed"] = max(memory["accessed"], e["ts"])
        elif type_ == "linked":
            memory["links"] = memory["links"] | e["links"]
        else:
            memory |= {"content": memory["version"], "payload": e["payload"]}
            if e["dedupe_key"]:
                self.wrote[e["dedupe_key"]] = e["id"], memory["version"]
            memory["updated"] = max(memory["updated"], e["ts"])
            memory["links"] = e["links"] or memory["links"]

    def tick(self, now: int) -> None:
        self.keys = {key: until for key, until in self.keys.items() if until > now}
        self.wrote = {key: what for key, what in self.wrote.items() if key in self.keys}
        for id_, memory in list(self.memories.items()):
            if memory["deleted"] and memory["until"] <= now:
                self.gone = max(self.gone, memory["updated"])
                del self.memories[id_]

    def rows(self) -> dict[str, tuple[Any, ...]]:
        """Of memory.latest: what counts of each row."""
        found: dict[str, tuple[Any, ...]] = {}
        for id_, m in self.memories.items():
            found[head_key("a", "", id_)] = (
                m["version"], m["deleted"], m["count"], m["accessed"], m["updated"], m["links"],
            )  # fmt: skip
            if not m["deleted"]:
                found[content_key("a", "", id_)] = (m["content"], m["payload"])
        return found


def shown(driver: Driver) -> dict[str, tuple[Any, ...]]:
    """As `Model.rows`."""
    found: dict[str, tuple[Any, ...]] = {}
    for key, r in latest(driver).items():
        found[key] = (r["version"], r["payload"]) if r["part"] == "content" else (
            r["version"], r["deleted"], r["access_count"], r["accessed_ts"], r["updated_ts"],
            r["links"],
        )  # fmt: skip
    return found


events = st.tuples(
    st.sampled_from(["created", "created", "updated", "accessed", "linked", "deleted"]),
    st.sampled_from(AT),
    st.sampled_from(["", "", "k1", "k2", "k3"]),  # dedupe key
    st.sampled_from([None, None, None, 0, 1, 2, 3]),  # expected version
    st.integers(-90, 5),  # event time beside the log's, s
    st.sampled_from([None, None, *AT]),  # link to
    st.sampled_from(["", "", "k1", "k2"]),  # expected key
)
steps = st.lists(st.one_of(events, events, st.integers(1, 70), st.just("restart")), max_size=40)


@given(steps)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_memories_are_what_the_model_says(given_steps: list[Any]) -> None:
    driver, model = Driver(PROCESSOR, settings={"horizon_s": str(HORIZON_S)}), Model()
    wanted: list[str] = []
    for k, step in enumerate(given_steps):
        if step == "restart":
            driver.restart()
        elif isinstance(step, int):
            driver.tick(driver.time + step * SECOND)
            model.tick(driver.time)
        else:
            type_, at, key, expected, shift, to, by = step
            links = {IDS[to]: "near"} if to is not None and to != at else {}
            one = event(
                type_, at, ts=driver.time + shift * SECOND, dedupe_key=key, links=links,
                expected_version=expected, expected_key=by, payload=f'{{"n": {k}}}',
            )  # fmt: skip
            driver.send(one)
            wanted.append(model.fold(one, driver.time))
    assert [one["reason"] for one in audit(driver)] == wanted
    assert shown(driver) == model.rows()
    alive = sum(not one["deleted"] for one in model.memories.values())
    assert driver.rows.get("a", {"number": 0})["number"] == alive
    known = [key for key in driver.rows if key.startswith("a/~")]
    assert len(known) == len(model.keys) and not driver.dead_letters
