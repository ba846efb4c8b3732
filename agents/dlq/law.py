"""The law of redriving: which letters go back to their topic, and which don't.

1. A record goes back once for each time that it failed. What names it is its origin and a digest of
   its bytes (`Letter.identity`), not the letter: writers that aren't processors may write a letter
   twice. The mark `redriven` in `soma.dlq.ledger` is committed in one transaction with the record.
   If the record fails again, that is a new letter, of another origin; it may go back in its turn.
2. The record says how often it was redriven (header `soma-redriven`), and its next letter with it.
   After as many times as one allows (`most`) it is parked: marked so, and left until somebody
   allows more.
3. Dropped letters, settings and other control records (they would act later than was meant, over
   what was set meanwhile) and what can't be sent (record batches, too large ones) stay.
4. A record that has been folded stays. A processor that writes a letter has passed over its record,
   in the same transaction; so what counts is who else, and what since:
   - What nobody can read (the engine's own reasons) was folded by nobody. A reason of the law of
     one processor says nothing of the others that read the topic and keep state: they fold the
     record where it stands, and would fold it twice. Their names stand in the refusal; the way on
     is to rebuild the one processor. Who keeps no state (projections, the gateway, your consumers)
     sees the record again, with its headers.
   - Where a processor read that part of its input again after the letter was written (its state
     was lost, or rebuilt under another law), the epochs log has an epoch that is younger than the
     letter and begins at its origin or before. If the record failed again there is a younger
     letter, and that one is redriven; if it didn't, it is folded. An epoch within `SAME_MS` of the
     letter may be that of its own transaction. A new beginning under the same law, settings and
     schemas writes no epoch: but there the same records fail, and (1) knows them by their identity.
   - Where its state was made anew since, and put in place (`soma replay start rebuild --apply`),
     the record was read again too. By the same law and schemas it failed again, which makes no
     letter, and may go back; by others it may be folded, and stays, unless its reason is that it
     was passed over by hand (`law_failed`): a rebuild passes over it as well.
   - An epoch of a topic that was made anew since is of other records: no reason, where the epochs
     say of which topic they are.
   What the epochs log says is read on before each part that is sent; and of two jobs, a redrive and
   a rebuild that is put in place, the second is refused.
5. What this version would refuse again by the record alone (what can't be decoded, wrong names, a
   time before 2000) isn't sent before it is mended: it would only use up its times.

Letters go in the order in which they were written, from each partition; those written while a
redrive runs wait for the next one. A mended record is checked against its topic's schema before it
is sent. Its key is the tenant that it names, so that it comes into its tenant's partition.

Taken from others: the end is fixed at the start (KurrentDB's `stopAt` of parked messages), parking
after a number of times (KurrentDB), one mover for each queue at a time (SQS), headers that survive
the next failure (Spring Kafka's dead letter topics).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agents.dlq.content import Content, MendError, content_of, mended, tenant_of
from agents.dlq.letters import MOST, Headers, Letter, redriven_headers
from agents.engine.reasons import NAMES, OWN
from topics.catalogue import CATALOGUE, MESSAGE_BYTES_MAX

SAME_MS = 60_000  # no transaction stays open for so long
RECORD_BYTES_MAX = MESSAGE_BYTES_MAX - 4096  # unpacked: how well others packed it we can't know
PASSED_OVER = "law_failed"  # the reason of what `soma skip` passes over
EVERYBODYS = frozenset(name for code, name in NAMES.items() if code not in OWN)


class Mark(NamedTuple):
    """What became of a record that failed."""

    what: str  # "redriven", "parked", "dropped"
    times: int
    ts: int  # microseconds
    letter: str = ""  # the place of the letter that was judged
    actor: str = ""


class Epoch(NamedTuple):
    """When a processor began at which offset of a partition, or was given a state made anew."""

    log_ms: int
    from_offset: int
    topic_id: str  # of its source; empty: not known
    version: tuple[int, str] = (0, "")  # by which it folds: its law, and the set of schemas
    rebuilt: int | None = None  # of a state made anew: the first offset that isn't in it


@dataclass(frozen=True)
class Known:
    """What is known beside the letters of one topic."""

    marks: Mapping[bytes, Mark]
    epochs: Mapping[tuple[str, int], Sequence[Epoch]] = field(default_factory=dict)
    folders: frozenset[str] = frozenset()  # processors that read the topic and keep state


class Verdict(NamedTuple):
    """What is to be done with a letter: "send", "park" or "refuse"; `why` is a word for counting.

    Of what is sent, the rest says what: key, value, and whether it was changed.
    """

    what: str
    why: str = ""
    said: str = ""
    key: bytes | None = None
    value: bytes | None = None
    headers: Headers = ()
    tenant: str = ""
    mended: bool = False


def judge(
    letter: Letter, known: Known, most: int = MOST, changes: Mapping[str, Any] | None = None
) -> Verdict:
    """What becomes of a letter. `changes`: fields to be set before it is sent."""
    if (standing := _standing(letter, known, most)) is not None:
        return standing
    content = content_of(letter)
    if content.control:
        return _no("control", "a control record acts where it stands: set it anew")
    if changes:
        try:
            value, tenant = mended(letter, content, changes)
        except MendError as error:
            return _no("bad_mend", str(error))
        return _sent(letter, value, tenant, True)
    if content.wrong:
        return _no("still_bad", content.wrong)
    return _sent(letter, letter.value, content.tenant, False)


def judge_new(letter: Letter, known: Known, most: int, value: bytes, tenant: str) -> Verdict:
    """As `judge`, of a letter whose record was written anew (`content.made`)."""
    standing = _standing(letter, known, most, form=False)
    return standing if standing is not None else _sent(letter, value, tenant, True)


def status_of(letter: Letter, marks: Mapping[bytes, Mark]) -> str:
    """`open`, or what became of it."""
    mark = marks.get(letter.identity)
    return mark.what if mark is not None else "open"


def whose(letter: Letter, content: Content | None = None) -> str:
    """The tenant of a letter; empty if nothing says so."""
    return tenant_of(letter, content or content_of(letter))


def folders_of(topic: str, processors: Sequence[str]) -> frozenset[str]:
    """The processors (of all there are) that read a topic, and so keep state of it."""
    row = CATALOGUE.get(topic)
    return frozenset(row.readers if row is not None else ()) & frozenset(processors)


def _standing(letter: Letter, known: Known, most: int, form: bool = True) -> Verdict | None:
    """What is decided without the record's content; None: nothing speaks against it."""
    if not letter.reason or letter.origin is None:
        return _no("foreign", "not a letter of ours: it lacks the headers that say whence it is")
    mark = known.marks.get(letter.identity)
    if mark is not None and mark.what != "parked":
        return _no(mark.what, f"{mark.what} already")
    if form and letter.form:
        return _no("too_large", content_of(letter).wrong)
    if others := _others(letter, known):
        return _no("folded", f"{', '.join(others)} read it too, and would fold it twice: rebuild "
                   f"{letter.processor} instead")  # fmt: skip
    if _read_again(letter, known):
        return _no("folded", f"{letter.processor} has read its offset again since: if it failed "
                   "again, redrive its younger letter; if not, it is folded")  # fmt: skip
    if letter.times >= most:
        if mark is not None:
            return _no("parked", f"parked: redriven {letter.times} times; allow more")
        return Verdict("park", "parked", f"redriven {letter.times} times, {most} are allowed")
    return None


def _others(letter: Letter, known: Known) -> list[str]:
    """Who folds the letter's record where it stands."""
    if letter.reason in EVERYBODYS:
        return []
    return sorted(known.folders - {letter.processor})


def _read_again(letter: Letter, known: Known) -> bool:
    """Whether the processor read the origin again, after the letter was written, and it counts."""
    assert letter.origin is not None  # it is a letter of ours
    topic_id = ""  # of the topic in which the record was
    then = now = None  # versions: when it failed, and of the last epoch
    for epoch in known.epochs.get((letter.processor, letter.origin.partition), ()):
        before = epoch.log_ms <= letter.log_ms + SAME_MS
        if epoch.rebuilt is None:
            now = epoch.version
            then = now if before else then
        if before:
            topic_id = epoch.topic_id
        elif topic_id and epoch.topic_id not in ("", topic_id):
            continue
        elif epoch.rebuilt is None and epoch.from_offset <= letter.origin.offset:
            return True
        elif epoch.rebuilt is None or letter.reason == PASSED_OVER or then == now:
            continue
        elif epoch.rebuilt > letter.origin.offset:
            return True
    return False


def _sent(letter: Letter, value: bytes | None, tenant: str, changed: bool) -> Verdict:
    topic = CATALOGUE.get(letter.place.source)
    keyed = topic is not None and topic.key == "tenant"
    key = tenant.encode() if keyed and tenant else letter.key
    headers = redriven_headers(letter)
    size = len(key or b"") + len(value or b"")
    size += sum(len(name) + len(text or b"") + 8 for name, text in headers)
    if size > RECORD_BYTES_MAX:
        return _no("too_large", f"{size:,} bytes unpacked, more than {RECORD_BYTES_MAX:,}")
    return Verdict("send", "", "", key, value, headers, tenant, changed)


def _no(why: str, said: str) -> Verdict:
    return Verdict("refuse", why, said)
