"""One dead letter: the record as it was, why it failed and where, and how often it was redriven.

What isn't a letter of ours (somebody else's record, headers that lack or lie) is one without a
reason: it is shown and may be dropped, and never redriven.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from topics.catalogue import source_of

Headers = Sequence[tuple[str, bytes | None]]

WHY = ("soma-reason", "soma-detail", "soma-origin", "soma-processor")  # in this order, last
FORM = "soma-form"  # "batch": the value is the record batch; "origin": the value isn't here
# What a redriven record says, and its next letter with it: how often, which letter it was last,
# and when it failed first (milliseconds).
TIMES, FROM, FIRST = "soma-redriven", "soma-letter", "soma-failed-first"
HOPS = ("soma-origin", "soma-hops")  # of a forwarded record: redriven, it begins anew

PLACE = re.compile(r"([A-Za-z0-9._-]{1,249})/(\d{1,9})/(\d{1,18})")
REASON = re.compile(r"[a-z0-9_]{1,100}")
TIMES_MAX = 10_000
MOST = 3  # times that a record is redriven, unless somebody allows more
STATUSES = ("open", "parked", "redriven", "dropped")
LEFT = ("open", "parked")  # those of which something is still to become
MS_MAX = 253_402_300_800_000  # the year 10000


class DlqError(Exception):
    """What is asked can't be done; the text says why, in one line."""


class BadChoiceError(DlqError):
    """What was asked for isn't there, or makes no sense."""


class LateError(DlqError):
    """The time for it is over."""


class BusyError(DlqError):
    """Somebody else is at the letters of this topic."""


class TargetError(DlqError):
    """A topic that is to be written doesn't take what it is sent, nor will it."""


class Place(NamedTuple):
    """Where a record stands; the topic is the catalogue's name."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def source(self) -> str:
        """The topic that a letter's record was in, by where the letter stands."""
        return source_of(self.topic)


def place_of(text: str) -> Place | None:
    """A place from TOPIC/PARTITION/OFFSET; None if it is none."""
    found = PLACE.fullmatch(text)
    return Place(found[1], int(found[2]), int(found[3])) if found is not None else None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `key`, `value` and `headers` are the record's, as far as they are here."""

    place: Place  # its own
    topic_id: str  # of the dead letters' topic, 32 hex digits
    log_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    origin: Place | None = None  # the record's
    reason: str = ""  # empty: not a letter of ours
    detail: str = ""
    processor: str = ""
    form: str = ""
    times: int = 0  # how often its record has been redriven before
    first_ms: int = field(default=0)  # when it failed first

    @property
    def identity(self) -> bytes:
        """Names the record that failed: two letters of one record have the same.

        Writers other than processors may write a letter twice (the gateway, when it is killed), so
        it is the record that must not go twice, not the letter. Its bytes and the id of the
        letters' topic are part of the name: topics that were made anew count offsets from 0 again.
        """
        total = hashlib.sha256()
        for part in (self.key, self.value):
            size = -1 if part is None else len(part)
            total.update(size.to_bytes(8, "big", signed=True) + (part or b""))
        where = self.origin or self.place
        return f"{where} {self.topic_id[:8]} {total.hexdigest()[:16]}".encode()


def letter_of(
    place: Place, topic_id: str, log_ms: int, key: bytes | None, value: bytes | None,
    headers: Headers, source: str,
) -> Letter:  # fmt: skip
    """A letter from a record of the dead letters of `source` (as on the broker). Never raises."""
    own, why, form = _split(headers)
    origin = place_of(_text(why.get("soma-origin"), 300))
    reason = _text(why.get("soma-reason"), 100)
    if origin is None or origin.topic != source or not REASON.fullmatch(reason):
        return Letter(place, topic_id, log_ms, key, value, headers, first_ms=log_ms)
    times = _number(own, TIMES, TIMES_MAX)
    return Letter(
        place, topic_id, log_ms, key, value, own,
        origin=origin._replace(topic=place.source),
        reason=reason,
        detail=_text(why["soma-detail"], 4000),
        processor=_text(why["soma-processor"], 200),
        form=form,
        times=times,
        first_ms=min(_number(own, FIRST, MS_MAX), log_ms) or log_ms if times else log_ms,
    )  # fmt: skip


def redriven_headers(letter: Letter) -> list[tuple[str, bytes | None]]:
    """Headers of the record when it is sent again: its own, and whence it comes."""
    gone = (TIMES, FROM, FIRST, *HOPS)
    return [
        *((name, text) for name, text in letter.headers if name not in gone),
        (TIMES, b"%d" % (letter.times + 1)),
        (FROM, str(letter.place).encode()),
        (FIRST, b"%d" % letter.first_ms),
    ]


def _split(headers: Headers) -> tuple[Headers, dict[str, bytes | None], str]:
    """A record's own headers, those that say why, and the form."""
    own, form = list(headers), ""
    if own and own[-1][0] == FORM:  # as the gateway writes it
        form = _text(own.pop()[1], 20)
    if tuple(name for name, _ in own[-len(WHY) :]) != WHY:
        return headers, {}, ""
    own, why = own[: -len(WHY)], dict(own[-len(WHY) :])
    if not form and own == [(FORM, b"batch")]:
        return [], why, "batch"
    return own, why, form


def _number(headers: Headers, name: str, most: int) -> int:
    """The last header of this name as a number up to `most`; 0 where it is none."""
    found = [text for one, text in headers if one == name]
    text = found[-1] if found else None
    if text is None or not text.isdigit() or len(text) > 15:
        return 0
    return min(int(text), most)


def _text(value: bytes | None, most: int) -> str:
    return (value or b"")[:most].decode("utf-8", "replace")
