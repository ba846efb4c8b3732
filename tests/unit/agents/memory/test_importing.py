"""What the lines of an import do to memories: those there stay, deleted ones come back if asked."""

import json
from typing import Any

from agents.coordinates import memory_id
from agents.kit import Driver
from agents.memory.agent import PROCESSOR
from agents.tools.memory_lines import PLAIN, How, read_line
from tests.unit.agents.memory.latest import audit, content, head
from tests.unit.agents.memory.samples import event
from topics.codec import from_json

A, B, C = (memory_id("a", at) for at in ("1", "2", "3"))
PAST, LATER, LAST = "2025-10-08T00:00:00Z", "2025-10-09T08:54:00Z", "2025-10-29T00:00:00Z"
NOW = 1_760_000_000_000_000  # of a driver: 2025-10-09
SECOND, DAY_S = 1_000_000, 86_400
LINES = [
    {"coordinate": "1", "payload": {"n": "new"}, "ts": PAST, "links": {"2": "next"}},
    {"coordinate": "2", "payload": {"n": 2}, "ts": PAST, "links": {"1": "back", "3": "on"}},
    {"coordinate": "3", "payload": {"n": 3}, "ts": PAST},
]


def now(type_: str = "created", coordinate: str = "1", **more: Any) -> dict[str, Any]:
    return event(type_, coordinate, **{"ts": NOW} | more)


def imported(driver: Driver, how: How = PLAIN) -> list[str]:
    """Why the events had no effect, and "" where they had one."""
    lines = [read_line(json.dumps(one).encode()) for one in LINES]
    before = len(audit(driver))
    for made in [line.created("a", how) for line in lines], [
        one for line in lines for one in line.linked("a", how)
    ]:  # fmt: skip
        driver.send_all([from_json("memory_event", one) for one in made])
    return [one["reason"] for one in audit(driver)[before:]]


def links(driver: Driver, id_: str) -> dict[str, Any] | None:
    top = head(driver, id_)
    return None if top is None or top["deleted"] else top["links"]


def test_what_is_there_stays_as_it_is_with_its_links() -> None:
    driver = Driver(PROCESSOR)
    driver.send(now())
    before = head(driver, A), content(driver, A)
    assert imported(driver) == ["version", "", "", "version", "", ""]
    assert (head(driver, A), content(driver, A)) == before
    assert links(driver, B) == {A: "back", C: "on"}
    assert imported(driver) == ["duplicate"] * 6
    # Written anew behind it, a memory isn't the import's any more: what comes late leaves it alone.
    driver.send(now("updated", "3", ts=NOW + 5))
    assert imported(driver, How(LATER)) == ["version"] * 6


def test_what_was_deleted_comes_back_if_that_is_asked_for() -> None:
    driver = Driver(PROCESSOR)
    imported(driver)
    for at in ("1", "2"):
        driver.send(now("deleted", at))
    driver.send(now("updated", "3", payload='{"n":"mine"}'))
    assert set(imported(driver)) == {"duplicate"}
    assert imported(driver, How(LATER)) == ["", "", "version", "", "", ""]
    assert (links(driver, A), links(driver, B)) == ({B: "next"}, {A: "back", C: "on"})
    kept = content(driver, C)
    assert kept is not None and kept["payload"] == '{"n":"mine"}'
    assert set(imported(driver, How(LATER))) == {"duplicate"}, "it goes on, and does nothing twice"


def test_a_forgotten_deletion_is_no_matter_to_what_is_brought_back() -> None:
    driver = Driver(PROCESSOR)
    driver.send(now())
    driver.send(now("deleted", ts=NOW + SECOND))
    driver.tick(driver.time + 31 * DAY_S * SECOND)
    assert head(driver, A) is None
    assert set(imported(driver)) <= {"late", "absent"}
    assert set(imported(driver, How(LAST))) == {""}


def test_replacing_writes_over_what_is_there_whatever_its_age() -> None:
    driver = Driver(PROCESSOR)
    for at in ("1", "2", "3"):
        driver.send(now(coordinate=at))
    driver.send(now("linked", links={C: "mine"}))
    driver.send(now("deleted", "3"))
    driver.tick(driver.time + 20 * DAY_S * SECOND)
    assert set(imported(driver, How(LAST, replace=True))) == {""}
    written = content(driver, A)
    assert written is not None and written["payload"] == '{"n":"new"}'
    assert links(driver, A) == {B: "next", C: "mine"}
