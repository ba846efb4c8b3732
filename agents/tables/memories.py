"""Rows of memory.latest as rows of the table `memories`: heads and contents, by the same keys.

A record without a value takes its row away. That of a head, and a head that says `deleted`, takes
the content's too: its own tombstone stays in the log for a day, and who was away for longer would
keep a payload that was to be forgotten. Vectors stay in the topic, and what PostgreSQL can't hold
of a payload is replaced.
"""

import json
from operator import itemgetter
from typing import Any

from confluent_kafka import Message

from agents.memory_rows import CONTENT_PART, HEAD_PART, read_key
from agents.tables.rows import Gone, Rows, place_of, text
from stores.projection_sql import PLACE
from topics import codec
from topics.messages import as_bytes

KEY = ("tenant", "namespace", "id", "part")
LEFT_OUT = ("vector", "offset", "deleted")  # fields that are no columns
MADE = ("words",)  # columns that PostgreSQL makes
BOM = "\ufeff"


class MemoryRows(Rows):
    """Records of memory.latest, whose keys say which row of which memory they are."""

    def __init__(self) -> None:
        super().__init__("memory_state")
        self.fields = tuple(name for name in self.fields if name not in LEFT_OUT)
        self.columns = (*self.fields, *PLACE)
        self._columns = itemgetter(*self.fields)
        self._key = itemgetter(*KEY)

    def taken(self, message: Message, topic_id: str) -> tuple[Any, ...] | Gone:
        try:
            named = read_key((as_bytes(message.key()) or b"").decode())
        except ValueError as error:
            raise codec.BadRecord("key", str(error)) from None
        part = CONTENT_PART if named.content else HEAD_PART
        key = named.tenant, named.namespace, named.id, part
        gone = (key,) if named.content else (key, (*key[:-1], CONTENT_PART))
        if message.value() is None:
            return Gone(gone)
        record = self.record(message)
        if self._key(record) != key:
            raise codec.BadRecord("key", "it stands under the key of another memory")
        if record["deleted"]:
            return Gone(gone)
        record["payload"] = jsonb_text(record["payload"]) if named.content else None
        return (*self._columns(record), *place_of(message, topic_id))


def jsonb_text(payload: str) -> str:
    """A payload (the text of a JSON object) as jsonb takes it: without the character 0, halves of
    surrogate pairs and a byte order mark.
    """
    whole = payload.removeprefix(BOM)
    if "\\u" not in whole:
        return whole
    try:
        return json.dumps(_clean(json.loads(whole)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return whole  # PostgreSQL says what is wrong with it


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(one) for name, one in value.items()}
    return value
