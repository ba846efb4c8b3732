"""Letters as JSON lines: nothing of them is lost, and people can mend the `record` of a line.

A line that was made from a letter can be sent on even when the letter's time is over: what names
its record is in the line.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.dlq.content import MendError, content_of, made, schema_of
from agents.dlq.letters import MS_MAX, REASON, TIMES_MAX, Headers, Letter, place_of
from topics import strictjson
from topics.catalogue import CATALOGUE, dlq_of

LINE_BYTES_MAX = 8 << 20  # a letter's value in base64, and again as a record
TEXTS = {"topic_id": 32, "reason": 100, "detail": 4000, "processor": 200, "form": 20}


class LineError(ValueError):
    """A line isn't one that an export wrote, or its record can't be sent; the text says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A letter from a line. `anew`: value and tenant of the record, where that was changed."""

    letter: Letter
    anew: tuple[bytes, str] | None


def line_of(letter: Letter) -> dict[str, Any]:
    """A letter as JSON data. The bytes are in `key`, `value` and `headers`, in base64."""
    content = content_of(letter)
    return {
        "place": str(letter.place),
        "topic_id": letter.topic_id,
        "log_ms": letter.log_ms,
        "origin": str(letter.origin) if letter.origin is not None else None,
        "reason": letter.reason,
        "detail": letter.detail,
        "processor": letter.processor,
        "form": letter.form,
        "times": letter.times,
        "first_ms": letter.first_ms,
        "key": _packed(letter.key),
        "value": _packed(letter.value),
        "headers": [[name, _packed(text)] for name, text in letter.headers],
        "still_wrong": content.wrong,
        "record": content.record,
    }


def read_line(text: bytes) -> Line:
    """The inverse of `line_of`. `LineError` names what is wrong."""
    try:
        given = strictjson.parse(text)
    except strictjson.NotJsonError as error:
        raise LineError(str(error)) from None
    if not isinstance(given, dict):
        raise LineError("not a JSON object")
    letter = _letter(given)
    return Line(letter, _anew(letter, given.get("record")))


def _letter(given: Mapping[str, Any]) -> Letter:
    place = place_of(_text(given, "place", 300))
    if place is None:
        raise LineError("place: isn't TOPIC/PARTITION/OFFSET")
    topic = place.source
    if place.topic != dlq_of(topic) or place.topic not in CATALOGUE:
        raise LineError(f"place: there is no topic of dead letters {place.topic}")
    said = given.get("origin")
    origin = place_of(_text(given, "origin", 300)) if said is not None else None
    if said is not None and (origin is None or origin.topic != topic):
        raise LineError(f"origin: isn't {topic}/PARTITION/OFFSET")
    texts = {name: _text(given, name, most) for name, most in TEXTS.items()}
    if texts["reason"] and not REASON.fullmatch(texts["reason"]):
        raise LineError("reason: isn't the name of one")
    return Letter(
        place,
        log_ms=_number(given, "log_ms", MS_MAX),
        key=_unpacked(given.get("key"), "key"),
        value=_unpacked(given.get("value"), "value"),
        headers=_headers(given.get("headers")),
        origin=origin,
        times=_number(given, "times", TIMES_MAX),
        first_ms=_number(given, "first_ms", MS_MAX),
        **texts,
    )


def _anew(letter: Letter, record: object) -> tuple[bytes, str] | None:
    """The value and tenant of a record that isn't as it was. `LineError`."""
    if record is None or record == content_of(letter).record:
        return None
    if not isinstance(record, dict):
        raise LineError("record: neither an object nor null")
    try:
        return made(schema_of(letter), record)
    except MendError as error:
        raise LineError(f"record: {error}") from None


def _headers(given: object) -> Headers:
    if not isinstance(given, list):
        raise LineError("headers: isn't a list of [name, base64]")
    found: list[tuple[str, bytes | None]] = []
    for one in given:
        if not (isinstance(one, list) and len(one) == 2 and isinstance(one[0], str)):
            raise LineError("headers: isn't a list of [name, base64]")
        found.append((_whole(one[0], "headers"), _unpacked(one[1], "headers")))
    return found


def _text(given: Mapping[str, Any], name: str, most: int) -> str:
    text = given.get(name)
    if not isinstance(text, str) or len(text) > most:
        raise LineError(f"{name}: isn't text of at most {most} characters")
    return _whole(text, name)


def _whole(text: str, name: str) -> str:
    """Text that can be UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise LineError(f"{name}: holds half of a surrogate pair") from None
    return text


def _number(given: Mapping[str, Any], name: str, most: int) -> int:
    number = given.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
        raise LineError(f"{name}: isn't a whole number from 0 to {most}")
    return number


def _packed(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


def _unpacked(value: object, name: str) -> bytes | None:
    if value is None:
        return None
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except (binascii.Error, ValueError):
        raise LineError(f"{name}: not base64") from None
