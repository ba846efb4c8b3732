"""What the record of a letter says, read as far as it goes, and what is wrong with it today."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agents.dlq.letters import Letter
from agents.tools.admission import unfit
from agents.tools.mapping import NAME
from topics import codec, jsonform
from topics.catalogue import CATALOGUE
from topics.schemas import is_control_id, schemas
from topics.strictjson import begins_object

TENANT = "tenant"  # the field, and what the key of most topics is
FIELD = re.compile(r"(?:^|[;|:] )([A-Za-z_][A-Za-z0-9_]{0,63})(?=: )")


class MendError(Exception):
    """A record can't be changed so, or isn't one afterwards; the text says why."""


@dataclass(frozen=True, slots=True)
class Content:
    """A record as JSON data (times as text, vectors as lists), if it could be read at all.

    `wrong` says why this version wouldn't take it either; empty: it would, as far as the record
    alone shows. `schema` is the one it was read by.
    """

    record: dict[str, Any] | None = None
    schema: str = ""
    wrong: str = ""
    control: bool = False

    @property
    def tenant(self) -> str:
        """The tenant that it names; empty if it names none."""
        named = (self.record or {}).get(TENANT)
        return named if isinstance(named, str) and NAME.fullmatch(named) else ""


def content_of(letter: Letter) -> Content:
    """What a letter's record says. Never raises on bytes."""
    if letter.form:
        there = "is a whole record batch" if letter.form == "batch" else "lies at its origin only"
        return Content(wrong=f"the record {there}: it is too large for a letter of its own")
    schema = schema_of(letter)
    if letter.value is None:
        return Content(wrong="no value")
    if not schema:
        return Content(wrong="its topic has no schema")
    if begins_object(letter.value):
        return _of_text(letter.value, schema)
    return _of_avro(letter.value, schema)


def tenant_of(letter: Letter, content: Content) -> str:
    """Whose letter it is: the tenant that its record names, else its key; empty if neither says."""
    row = CATALOGUE.get(letter.place.source)
    if content.tenant or letter.key is None or row is None or row.key != TENANT:
        return content.tenant
    key = letter.key[:200].decode("utf-8", "replace")
    return key if NAME.fullmatch(key) else ""


def schema_of(letter: Letter) -> str:
    """The schema of the topic where the record was; empty if it has none."""
    topic = CATALOGUE.get(letter.place.source)
    return (topic.schema or "") if topic is not None else ""


def fields_in(detail: str, schema: str) -> list[str]:
    """The fields of a schema that an error names as `field: what is wrong; …`."""
    if schema not in schemas().names():
        return []
    known = {field["name"] for field in schemas().raw(schema)["fields"]}
    return [name for name in dict.fromkeys(FIELD.findall(detail)) if name in known]


def mended(letter: Letter, content: Content, changes: Mapping[str, Any]) -> tuple[bytes, str]:
    """The value with some fields changed, by its topic's schema, and its tenant. `MendError`."""
    if content.control:
        raise MendError("it is a control record: set it anew by `soma config set`")
    if content.record is None:
        raise MendError(f"its record can't be read ({content.wrong}): export it, write it anew")
    return made(schema_of(letter), {**content.record, **changes})


def made(schema: str, record: Mapping[str, Any]) -> tuple[bytes, str]:
    """The value and tenant of a record given as JSON data. `MendError` names each wrong field."""
    try:
        checked = codec.from_json(schema, record)
        value = codec.encode(schema, checked)
    except codec.BadRecord as error:
        raise MendError(error.detail) from None
    if bad := unfit(schema, checked):
        raise MendError(bad)
    return value, str(checked.get(TENANT, ""))


def _of_text(value: bytes, schema: str) -> Content:
    try:
        given = jsonform.parse(value)
    except codec.BadRecord as error:
        return Content(wrong=error.detail)
    try:
        record = codec.from_json(schema, given)
    except codec.BadRecord as error:
        return Content(given, schema, error.detail)
    return Content(given, schema, unfit(schema, record))


def _of_avro(value: bytes, schema: str) -> Content:
    try:
        control = is_control_id(codec.schema_of(value))
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        return Content(wrong=f"{error.reason}: {error.detail}")
    shown = codec.to_json(name, record)
    if control:
        return Content(shown, name, control=True)
    if name != schema:
        return Content(shown, name, f"a {name}, not a {schema}")
    return Content(shown, name, unfit(schema, record))
