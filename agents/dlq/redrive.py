"""Redriving and dropping letters, by the law of `law.py`: in parts, each of them one transaction.

A part's records, their marks and an event of the audit are committed together or not at all: killed
anywhere, the same call goes on where it was, for what is marked isn't sent again.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from agents.dlq.law import Known, Mark, Verdict, folders_of, judge, judge_new, whose
from agents.dlq.ledger import EpochsLog, LedgerWriter, known_of
from agents.dlq.letters import MOST, DlqError, LateError, Letter, Place
from agents.dlq.reading import Choice, LetterReader
from agents.engine.registry import processor_names
from agents.tools.transacting import PATIENCE_S

if TYPE_CHECKING:
    from agents.settings import Settings

PART = 500  # letters in a transaction
PART_BYTES = 8 << 20
NAMED_MAX = 1000  # letters that are named in an answer
TENANTS_MAX = 1000


@dataclass(frozen=True)
class Terms:
    """How letters are redriven."""

    actor: str
    most: int = MOST  # times
    changes: Mapping[str, Any] = field(default_factory=dict)  # fields to be set first
    dry: bool = False
    limit: int | None = None  # letters to send at most
    deadline: float | None = None  # time.monotonic(): nothing is begun later
    waits_s: float = PATIENCE_S  # for a broker that is away

    @property
    def patience_s(self) -> float:
        """For a broker that is away, within the deadline."""
        if self.deadline is None:
            return self.waits_s
        return min(self.waits_s, max(0.5, self.deadline - time.monotonic()))


@dataclass
class Tally:
    """What became of the letters; of a rehearsal, what would."""

    sent: int = 0
    mended: int = 0
    parked: int = 0
    dropped: int = 0
    bytes: int = 0  # keys and values sent
    refused: Counter[str] = field(default_factory=Counter)  # by the law's word
    first_ms: int | None = None  # log times of the letters that are sent or dropped
    last_ms: int | None = None
    tenants: Counter[str] = field(default_factory=Counter)  # of those, the first TENANTS_MAX
    named: list[dict[str, str]] = field(default_factory=list)  # refused and parked: place, why
    places: list[str] = field(default_factory=list)  # sent or dropped
    committed: int = 0  # sent, parked and dropped, for good
    more: bool = False  # the limit or the time was reached: ask again

    def took(self, letter: Letter, tenant: str, size: int) -> None:
        """Count a letter that is sent or dropped."""
        self.bytes += size
        self.first_ms = (
            letter.log_ms if self.first_ms is None else min(self.first_ms, letter.log_ms)
        )
        self.last_ms = max(self.last_ms or 0, letter.log_ms)
        if tenant in self.tenants or len(self.tenants) < TENANTS_MAX:
            self.tenants[tenant] += 1
        if len(self.places) < NAMED_MAX:
            self.places.append(str(letter.place))

    def name(self, place: Place, why: str, text: str) -> None:
        """Name a letter that isn't sent."""
        if len(self.named) < NAMED_MAX:
            self.named.append({"place": str(place), "why": why, "said": text})

    @property
    def all_refused(self) -> int:
        """How many were refused."""
        return sum(self.refused.values())

    def data(self) -> dict[str, Any]:
        """As JSON data."""
        counters = {"refused": dict(self.refused), "tenants": dict(self.tenants)}
        return vars(self) | counters


class Redriver:
    """Redrives one topic's letters: `open`, then `take` each, `commit`, and `close`. `DlqError`."""

    def __init__(self, settings: "Settings", topic: str, terms: Terms, tally: Tally) -> None:
        self.writer = None if terms.dry else LedgerWriter(
            settings, topic, terms.actor, terms.patience_s
        )  # fmt: skip
        self._settings = settings
        self._topic = topic
        self._terms = terms
        self.tally = tally  # whoever counts in parts puts a new one here
        self._epochs = EpochsLog(settings, folders_of(topic, processor_names()))
        self._looked = False  # whether they were read on in this part
        self._marks: dict[bytes, Mark] = {}
        self._count = self._bytes = 0  # of this part
        self._tenants: set[str] = set()

    def open(self) -> None:
        """Fence who else redrives this topic, and read what is known of its letters."""
        if self.writer is not None:
            self.writer.fence()
        found = known_of(self._settings, self._topic, self._epochs, self._terms.deadline)
        self._marks = dict(found.marks)
        self._known = Known(self._marks, found.epochs, found.folders)  # what is taken counts too

    @property
    def marks(self) -> Mapping[bytes, Mark]:
        """What became of the letters so far, this part included."""
        return self._marks

    def take(self, letter: Letter, anew: tuple[bytes, str] | None = None) -> Verdict:
        """Decide on a letter, and do it. `anew`: value and tenant of a record written anew."""
        verdict = self._judged(letter, anew)
        if verdict.what == "send" and not self._looked:
            # A throttled job takes hours: its record may have been folded since the last part.
            self._epochs.read_on(self._terms.deadline)
            self._looked, verdict = True, self._judged(letter, anew)
        if verdict.what == "refuse":
            self.tally.refused[verdict.why] += 1
            self.tally.name(letter.place, verdict.why, verdict.said)
            return verdict
        if verdict.what == "park":
            self._park(letter, verdict)
        else:
            self._send(letter, verdict)
        if self._count >= PART or self._bytes >= PART_BYTES:
            self.commit()
        return verdict

    def _judged(self, letter: Letter, anew: tuple[bytes, str] | None) -> Verdict:
        terms = self._terms
        if anew is None:
            return judge(letter, self._known, terms.most, terms.changes)
        return judge_new(letter, self._known, terms.most, *anew)

    def drop(self, letter: Letter) -> bool:
        """Give a letter up; False, and it is named, if it was given up, or redriven, before."""
        before = self._marks.get(letter.identity)
        if before is not None and before.what != "parked":
            self.tally.refused[before.what] += 1
            self.tally.name(letter.place, before.what, f"{before.what} already")
            return False
        tenant = whose(letter)
        self._note(letter, "dropped", letter.times, tenant)
        if self.writer is not None:
            self.writer.mark(letter, "dropped", letter.times)
        self.tally.dropped += 1
        self.tally.took(letter, tenant, len(letter.value or b""))
        if self._count >= PART:
            self.commit("dlq.drop")
        return True

    def commit(self, action: str = "dlq.redrive") -> None:
        """Commit what was decided since the last time."""
        self._looked = False
        if not self._count:
            return
        if self.writer is not None:
            tenant = self._tenants.pop() if len(self._tenants) == 1 else ""
            detail = {"letters": self._count, "set": dict(self._terms.changes)}
            self.writer.audit(action, tenant, detail)
            self.writer.commit()
            self.tally.committed += self._count
        self._count = self._bytes = 0
        self._tenants = set()

    def close(self) -> None:
        """Let the broker go; what isn't committed never was."""
        if self.writer is not None:
            self.writer.close()

    def _send(self, letter: Letter, verdict: Verdict) -> None:
        if self.writer is not None:
            self.writer.send(letter, verdict)
        tenant = verdict.tenant or whose(letter)
        self._note(letter, "redriven", letter.times + 1, tenant)
        size = len(verdict.key or b"") + len(verdict.value or b"")
        self._bytes += size
        self.tally.sent += 1
        self.tally.mended += verdict.mended
        self.tally.took(letter, tenant, size)

    def _park(self, letter: Letter, verdict: Verdict) -> None:
        if self.writer is not None:
            self.writer.mark(letter, "parked", letter.times)
        self._note(letter, "parked", letter.times, whose(letter))
        self.tally.parked += 1
        self.tally.name(letter.place, verdict.why, verdict.said)

    def _note(self, letter: Letter, what: str, times: int, tenant: str) -> None:
        self._marks[letter.identity] = Mark(what, times, time.time_ns() // 1000)
        self._count += 1
        self._tenants.add(tenant)


Step = Callable[[Tally], None]


def redrive(
    settings: "Settings", choice: Choice, terms: Terms, step: Step = lambda _: None
) -> Tally:
    """Redrive the chosen letters that are there now; `step` hears after each. `DlqError`.

    What was sent before an error is committed in parts: the same call goes on behind it.
    """
    return _each(settings, choice, terms, step, lambda redriver, letter: redriver.take(letter))


def drop(settings: "Settings", choice: Choice, terms: Terms, step: Step = lambda _: None) -> Tally:
    """Give the chosen letters up: they are never redriven. As `redrive`."""
    return _each(
        settings, choice, terms, step, lambda redriver, letter: redriver.drop(letter), "dlq.drop"
    )


def _each(
    settings: "Settings", choice: Choice, terms: Terms, step: Step,
    do: Callable[[Redriver, Letter], object], action: str = "dlq.redrive",
) -> Tally:  # fmt: skip
    tally = Tally()
    missing = set(choice.places)
    for topic, letters in _opened(settings, choice, terms):
        redriver = Redriver(settings, topic, terms, tally)
        try:
            redriver.open()
            for letter in letters:
                if not choice.takes(letter, redriver.marks):
                    continue
                missing.discard(letter.place)
                if _over(terms, tally):
                    tally.more = True
                    break
                do(redriver, letter)
                step(tally)
            redriver.commit(action)
        except LateError:
            redriver.commit(action)
            tally.more = True
        except DlqError as error:
            done = f"; before that {tally.committed} letters were done" if tally.committed else ""
            raise type(error)(f"{topic}: {error}{done}") from error
        finally:
            redriver.close()
        if tally.more:
            return tally
    _name_missing(tally, missing)
    return tally


def _opened(
    settings: "Settings", choice: Choice, terms: Terms
) -> Iterator[tuple[str, Iterator[Letter]]]:
    """Each topic that has letters, with those up to where it ends when its turn comes."""
    for topic in choice.topics:
        reader = LetterReader(settings, [topic], terms.deadline)
        try:
            letters = reader.letters(topic, choice)
            if (first := next(letters, None)) is not None:  # or nobody needs to be fenced
                yield topic, chain([first], letters)
        finally:
            reader.close()


def _over(terms: Terms, tally: Tally) -> bool:
    late = terms.deadline is not None and time.monotonic() >= terms.deadline
    return late or (terms.limit is not None and tally.sent + tally.dropped >= terms.limit)


def _name_missing(tally: Tally, missing: set[Place]) -> None:
    for place in sorted(missing):
        tally.refused["not_there"] += 1
        tally.name(place, "not_there", "there is no such letter")
