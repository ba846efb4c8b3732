"""Which records a job takes, beyond its range: tenants by their keys, the rest by what they say."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jmespath
from jmespath.exceptions import (
    ArityError,
    JMESPathError,
    LexerError,
    ParseError,
    UnknownFunctionError,
)

from agents.replay.command import PREDICATE_MAX, TENANTS_MAX, Command
from topics import codec, strictjson

NAME_MAX = 128  # characters of a tenant, domain or namespace


def filter_refusal(command: Command) -> str | None:
    """Why a command's filters can't be."""
    for name, given in (("tenants", command.tenants), ("domains", command.domains)):
        if len(given) > TENANTS_MAX:
            return f"{name}: {len(given)}, at most {TENANTS_MAX}"
        if bad := [one for one in given if not 0 < len(one) <= NAME_MAX]:
            return f"{name}: {bad[0][:NAME_MAX]!r} is no name"
    if len(command.predicate) > PREDICATE_MAX:
        return f"predicate: {len(command.predicate)} characters, at most {PREDICATE_MAX}"
    try:
        if (predicate := compiled(command.predicate)) is not None:
            predicate.search({})
    except (UnknownFunctionError, ArityError, ParseError, LexerError, RecursionError) as error:
        return f"predicate: {_line(error)}"
    except JMESPathError:
        return None  # of a field that isn't there, which a record may have
    return None


@lru_cache(maxsize=64)
def compiled(predicate: str) -> Any:
    """A JMESPath expression, ready to `search`; None for an empty one. JMESPathError."""
    return jmespath.compile(predicate) if predicate else None


class ContentFilter:
    """What a job asks of a record's content."""

    def __init__(self, schema: str | None, domains: tuple[str, ...], predicate: str) -> None:
        """`schema`: of the topic's values that are written as JSON."""
        self._schema = schema
        self._domains = frozenset(domains)
        self._predicate = compiled(predicate)

    def __bool__(self) -> bool:
        """Whether it asks anything."""
        return bool(self._domains) or self._predicate is not None

    def takes(self, value: bytes | None) -> bool:
        """Whether it is one of those wanted. ValueError where the predicate can't be asked of it.

        What can't be read says nothing, and isn't.
        """
        try:
            record = self._read(value)
        except codec.BadRecord:
            return False
        if self._domains and record.get("domain") not in self._domains:
            return False
        if self._predicate is None:
            return True
        try:
            return self._predicate.search(record) is True
        except (JMESPathError, RecursionError) as error:
            raise ValueError(f"predicate: {_line(error)}") from error

    def _read(self, value: bytes | None) -> Mapping[str, Any]:
        """As people see it. BadRecord."""
        if value is None:
            raise codec.BadRecord("null_value", "a deletion")
        if self._schema is not None and strictjson.begins_object(value):
            return codec.to_json(self._schema, codec.from_json(self._schema, value))
        return codec.to_json(*codec.decode(value))


def _line(error: BaseException) -> str:
    """What is wrong, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
