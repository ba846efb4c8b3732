"""A tenant's memories as JSON lines, and the events that such lines become again.

    {"coordinate": "alice/style", "namespace": "", "memory_type": "episodic", "payload": {…},
     "importance": 2.0, "embedding": [], "model_revision": "", "links": {"bob/style": "like"},
     "ts": "2026-01-31T12:00:00Z"}

Links lead to coordinates, for ids follow from the tenant: so lines may be another tenant's. What a
memory may not be is said by the processor's own check, before anything is sent.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from agents.coordinates import canonical, event_id, memory_id
from agents.memory import checks
from agents.memory.law import CREATED, LINKED
from topics import codec, strictjson

LINE_BYTES_MAX = 4 << 20  # 900 kB of payload, 4,096 numbers and 256 links, and white space
LINKS_MAX = 256
KEY_DIGITS = 40  # of a dedupe key
SCHEMA = "memory_event"
FIELDS: Mapping[str, tuple[type, ...]] = {
    "coordinate": (str,), "namespace": (str,), "memory_type": (str,), "payload": (dict,),
    "importance": (int, float, type(None)), "embedding": (list,), "model_revision": (str,),
    "links": (dict,), "ts": (str,),
}  # fmt: skip
DEFAULTS: Mapping[str, Any] = {
    "namespace": "", "memory_type": "episodic", "importance": None, "embedding": [],
    "model_revision": "", "links": {},
}  # fmt: skip


class LineError(ValueError):
    """A line is no memory; the text says why."""


@dataclass(frozen=True, slots=True)
class How:
    """How lines become events: of their own times, or as what happens at `at`, which is after what
    was deleted before; over memories that are there, or where there is none.
    """

    at: str = ""
    replace: bool = False

    @property
    def what(self) -> str:
        """Another time or way is another event of the same line."""
        return f"{'replace' if self.replace else CREATED} {self.at}".rstrip()


PLAIN = How()


@dataclass(frozen=True, slots=True)
class Line:
    """A memory of a line, of whichever tenant."""

    fields: Mapping[str, Any]

    def key(self, tenant: str, what: str) -> str:
        """The dedupe key of an event made of it: the same line gives the same one, wherever."""
        said = json.dumps([tenant, what, dict(self.fields)], sort_keys=True)
        return f"import:{hashlib.sha256(said.encode()).hexdigest()[:KEY_DIGITS]}"

    def created(self, tenant: str, how: How = PLAIN) -> dict[str, Any]:
        """The memory_event that makes it, as JSON data: where there is none, unless it replaces."""
        names = ("memory_type", "importance", "embedding", "model_revision")
        return self._event(tenant, CREATED, how.what, how) | {
            name: self.fields[name] for name in names
        } | {
            "payload": _text(self.fields["payload"]),
            "expected_version": None if how.replace else 0,
        }  # fmt: skip

    def linked(self, tenant: str, how: How = PLAIN) -> Iterator[dict[str, Any]]:
        """The memory_events of its links, one each: a link that can't be hinders no other. Of a
        memory that `created` made alone: one that was there stays as it is.
        """
        made = self.key(tenant, how.what)
        for to, kind in sorted(self.fields["links"].items()):
            event = self._event(tenant, LINKED, f"{LINKED} as {how.what} {to} {kind}", how)
            yield event | {
                "links": {memory_id(tenant, canonical(to)): kind}, "expected_key": made,
            }  # fmt: skip

    def _event(self, tenant: str, type_: str, what: str, how: How) -> dict[str, Any]:
        coordinate, key = canonical(self.fields["coordinate"]), self.key(tenant, what)
        return {
            "event_id": event_id(tenant, key), "id": memory_id(tenant, coordinate),
            "tenant": tenant, "namespace": self.fields["namespace"], "type": type_,
            "ts": how.at or self.fields["ts"], "coordinate": coordinate, "dedupe_key": key,
        }  # fmt: skip


def _text(payload: Any) -> str:
    """As it is kept. Half of a surrogate pair, which no UTF-8 has, stays as it is escaped."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(payload, separators=(",", ":"))
    return text


def line_of(
    head: Mapping[str, Any], content: Mapping[str, Any], names: Mapping[str, str]
) -> dict[str, Any]:
    """A memory's line, of its rows of memory.latest; `names`: the coordinates of the tenant's ids.

    Links to what isn't there are left out.
    """
    shown = codec.to_json("memory_state", {
        "vector": content["vector"], "updated_ts": head["updated_ts"],
    })  # fmt: skip
    return {
        "coordinate": content["coordinate"], "namespace": head["namespace"],
        "memory_type": head["memory_type"], "payload": json.loads(content["payload"]),
        "importance": head["importance_raw"], "embedding": shown["vector"],
        "model_revision": content["model_revision"],
        "links": {names[to]: kind for to, kind in head["links"].items() if to in names},
        "ts": shown["updated_ts"],
    }  # fmt: skip


def read_line(data: bytes) -> Line:
    """The inverse of `line_of`; lacking fields have defaults. `LineError`."""
    try:
        given = strictjson.parse(data)
    except strictjson.NotJsonError as error:
        raise LineError(str(error)) from None
    if not isinstance(given, dict):
        raise LineError(f"a JSON object is wanted, not a {type(given).__name__}")
    if unknown := sorted(given.keys() - FIELDS.keys()):
        raise LineError(f"{unknown[0][:40]}: no such field")
    fields = {**DEFAULTS, **given}
    for name, kinds in FIELDS.items():
        if name not in fields:
            raise LineError(f"{name}: missing")
        if not isinstance(fields[name], kinds) or isinstance(fields[name], bool):
            raise LineError(f"{name}: can't be a {type(fields[name]).__name__}")
    line = Line(fields)
    _check(line)
    return line


def _check(line: Line) -> None:
    """By the processor's own rules, as a tenant's that doesn't matter. `LineError`."""
    tenant = "x"
    links = line.fields["links"]
    if len(links) > LINKS_MAX:
        raise LineError(f"links: {len(links)}, at most {LINKS_MAX}")
    if not all(isinstance(kind, str) and kind for kind in links.values()):
        raise LineError("links: a kind is a text, and not empty")
    try:
        for event in (line.created(tenant), *line.linked(tenant)):
            record = codec.from_json(SCHEMA, event)
            codec.encode(SCHEMA, record)
            if (bad := checks.bad(SimpleNamespace(**record))) is not None:
                raise LineError(bad.detail)
    except codec.BadRecord as error:
        raise LineError(error.detail) from None
    except ValueError as error:
        if isinstance(error, LineError):
            raise
        raise LineError(f"coordinate: {error}") from None
