"""Which records a job takes, beyond its range: tenants by their keys, the rest by what they say."""

from collections.abc import Mapping
from typing import Any

from agents.replay.command import TENANTS_MAX, Command
from agents.replay.predicates import PredicateError, predicate_of
from topics import codec, strictjson

NAME_MAX = 128  # characters of a tenant, domain or namespace


def filter_refusal(command: Command) -> str | None:
    """Why a command's filters can't be."""
    for name, given in (("tenants", command.tenants), ("domains", command.domains)):
        if len(given) > TENANTS_MAX:
            return f"{name}: {len(given)}, at most {TENANTS_MAX}"
        if bad := [one for one in given if not 0 < len(one) <= NAME_MAX]:
            return f"{name}: {bad[0][:NAME_MAX]!r} is no name"
    try:
        predicate = predicate_of(command.predicate)
    except PredicateError as error:
        return f"predicate: {error}"
    why = predicate.wrong() if predicate is not None else None
    return f"predicate: {why}" if why is not None else None


class ContentFilter:
    """What a job asks of a record's content."""

    def __init__(self, schema: str | None, domains: tuple[str, ...], predicate: str) -> None:
        """`schema`: of the topic's values that are written as JSON. PredicateError."""
        self._schema = schema
        self._domains = frozenset(domains)
        self._predicate = predicate_of(predicate)

    def __bool__(self) -> bool:
        """Whether it asks anything."""
        return bool(self._domains) or self._predicate is not None

    def takes(self, value: bytes | None) -> bool:
        """Whether it is one of those wanted; what can't be read says nothing, and isn't.

        PredicateError where the predicate can't be asked of it.
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
            return self._predicate.holds(record, len(value or b""))
        except PredicateError as error:
            raise PredicateError(f"predicate: {error}") from error

    def _read(self, value: bytes | None) -> Mapping[str, Any]:
        """As people see it. BadRecord."""
        if value is None:
            raise codec.BadRecord("null_value", "a deletion")
        if self._schema is not None and strictjson.begins_object(value):
            return codec.to_json(self._schema, codec.from_json(self._schema, value))
        return codec.to_json(*codec.decode(value))
