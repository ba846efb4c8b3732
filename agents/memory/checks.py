"""What no event can be, whatever is remembered: it becomes a dead letter."""

import re
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from agents.coordinates import canonical, memory_id
from topics import strictjson

ID, NAMESPACE, COORDINATE = "id", "namespace", "coordinate"
PAYLOAD, VECTOR, LINK, IMPORTANCE = "payload", "vector", "link", "importance"
REASONS = {
    ID: "the id isn't that of tenant and coordinate",
    NAMESPACE: "the namespace can't be one",
    COORDINATE: "the coordinate isn't in canonical form",
    PAYLOAD: "the payload isn't the text of a JSON object",
    VECTOR: "the embedding is no vector of float32: zero, infinite or cut off",
    LINK: "a link leads to no id, or says too much",
    IMPORTANCE: "the importance is no finite number",
}
PAYLOAD_BYTES_MAX = 900_000
NAMESPACE_MAX = 200  # characters
KIND_MAX = 64  # characters of a link's kind
DIMENSION_MAX = 4096
FLOAT_BYTES = 4
WRITES = ("created", "updated")  # events with a content

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Bad(NamedTuple):
    """Why an event can't be one."""

    reason: str
    detail: str


def bad(event: Any) -> Bad | None:
    """What is wrong with an event by itself; None: nothing."""
    if _ID.fullmatch(event.id) is None:
        return Bad(ID, "id: no uuid in lower case")
    if len(event.namespace) > NAMESPACE_MAX or not _plain(event.namespace):
        return Bad(NAMESPACE, f"namespace: up to {NAMESPACE_MAX} characters, no control characters")
    if event.importance is not None and not isfinite(event.importance):
        return Bad(IMPORTANCE, f"importance: {event.importance} is no finite number")
    for other, kind in event.links.items():
        if _ID.fullmatch(other) is None or other == event.id:
            return Bad(LINK, "links: to ids of other memories")
        if len(kind) > KIND_MAX or not _plain(kind):
            return Bad(LINK, f"links: a kind has up to {KIND_MAX} characters")
    return _bad_content(event) if event.type in WRITES else None


def _bad_content(event: Any) -> Bad | None:
    try:
        found = canonical(event.coordinate)
    except ValueError as error:
        return Bad(COORDINATE, f"coordinate: {error}")
    if found != event.coordinate:
        return Bad(COORDINATE, f"coordinate: in canonical form it is {found[:KIND_MAX]!r}")
    if event.id != memory_id(event.tenant, found):
        return Bad(ID, "id: not that of the coordinate")
    try:
        payload = strictjson.parse(event.payload)
    except strictjson.NotJsonError as error:
        return Bad(PAYLOAD, f"payload: {error}")
    if not isinstance(payload, dict):
        return Bad(PAYLOAD, "payload: no JSON object")
    return _bad_vector(event.embedding) if event.embedding else None


def _bad_vector(raw: bytes) -> Bad | None:
    """Of little-endian float32, as they come."""
    if len(raw) % FLOAT_BYTES or len(raw) > FLOAT_BYTES * DIMENSION_MAX:
        return Bad(VECTOR, f"embedding: {len(raw)} bytes; 4 a number, {DIMENSION_MAX} numbers")
    vector = np.frombuffer(raw, "<f4").astype(np.float64)  # whose squares are finite
    square = float(vector.dot(vector))
    if not isfinite(square):
        return Bad(VECTOR, "embedding: has a number that isn't finite")
    return None if square > 0 else Bad(VECTOR, "embedding: all zero")


def _plain(text: str) -> bool:
    """Whether a text has no control characters."""
    return text.isprintable() or not any(one < " " or one == "\x7f" for one in text)
