"""Who hears of a state that was put in place: owners that were taken before, and none twice."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from faust.types import TP

from agents.engine.host import Part
from agents.engine.partition import Partition
from agents.engine.rebuilds import DONE, Rebuild
from agents.engine.rebuilt import Rebuilt

SOURCE, EPOCHS = "observations", "epochs"


@dataclass
class Owned:
    """As much of a partition as counts here."""

    tp: TP
    epochs_end: int
    phase: str = "running"
    why: list[str] = field(default_factory=list)

    def take_anew(self, why: str) -> None:
        self.why.append(why)


class Told(Rebuilt):
    """Hears these words of the log from then on where they stand."""

    def __init__(self, words: list[tuple[int, Rebuild]]) -> None:
        nothing = cast(Any, None)
        super().__init__(nothing, nothing, ThreadPoolExecutor(1), EPOCHS)
        self.words, self.since, self.ends = words, dict[int, int](), dict[int, int]()

    def _news(self, since: Mapping[int, int], keys: set[bytes]) -> list[tuple[int, Rebuild]]:
        self.since = dict(since)
        self._shorter = {p: end for p, end in self.ends.items() if end < since.get(p, end)}
        found = [(at, one) for at, one in self.words if at >= since.get(one.partition, at + 1)]
        self._heard |= dict.fromkeys(since, 100)
        return found


def owned_by(*some: tuple[str, int, int, str]) -> dict[Part, Owned]:
    return {
        Part(SOURCE, number, name): Owned(TP(SOURCE, number), end, phase)
        for name, number, end, phase in some
    }


def done(name: str, number: int) -> Rebuild:
    return Rebuild(name, number, "", f"job-{name}-{number}", "jo", DONE)


def look(told: Told, owned: dict[Part, Owned]) -> dict[str, list[str]]:
    told._look_at = 0.0
    asyncio.run(told.look(cast(dict[Part, Partition], owned)))
    return {f"{part.processor}/{part.partition}": one.why for part, one in owned.items()}


def test_who_was_taken_before_is_taken_anew_once() -> None:
    owned = owned_by(
        ("a", 0, 5, "running"), ("b", 0, 9, "running"), ("a", 1, 5, "running"),
        ("a", 2, 5, "stopped"),
    )  # fmt: skip
    words = [(7, done("a", 0)), (8, done("b", 0)), (6, done("a", 2)), (6, done("c", 1))]
    told = Told(words)
    anew = ["its state was made anew by job-a-0"]
    assert look(told, owned) == {"a/0": anew, "b/0": [], "a/1": [], "a/2": []}
    assert told.since == {0: 5, 1: 5}
    assert look(told, owned)["a/0"] == anew and told.since == {0: 100, 1: 100}


def test_nothing_is_heard_beside_who_is_being_taken() -> None:
    """He would miss what is written between his reading of the log and his beginning."""
    owned = owned_by(("a", 0, 5, "running"), ("b", 0, 0, "recovering"), ("a", 1, 5, "running"))
    told = Told([(7, done("a", 0)), (7, done("a", 1))])
    anew = "its state was made anew by job-a-"
    assert look(told, owned) == {"a/0": [], "b/0": [], "a/1": [f"{anew}1"]}
    owned[Part(SOURCE, 0, "b")].phase = "running"
    owned[Part(SOURCE, 0, "b")].epochs_end = 6
    assert told.since == {1: 5}
    assert look(told, owned)["a/0"] == [f"{anew}0"]


def test_the_broker_is_asked_every_few_seconds_only() -> None:
    told, owned = Told([(7, done("a", 0))]), owned_by(("a", 0, 5, "running"))
    look(told, {})
    asyncio.run(told.look(cast(dict[Part, Partition], owned)))
    assert told.since == {}


def test_in_a_log_that_went_back_words_are_heard_from_its_end_on() -> None:
    owned = owned_by(("a", 0, 90, "running"), ("a", 1, 5, "running"))
    told = Told([])
    look(told, owned)
    told.ends = {0: 40}
    look(told, owned)
    assert told.since == {0: 100, 1: 100}
    told.words, told.ends = [(41, done("a", 0))], {}
    assert look(told, owned)["a/0"] == ["its state was made anew by job-a-0"]
    assert told.since == {0: 40, 1: 100}
