"""Changes of a record's fields, as people write them: FIELD=VALUE."""

from collections.abc import Iterable
from typing import Any

from agents.dlq.letters import BadChoiceError
from topics import strictjson

SHOWN = 200  # characters of a text in an error


def changed_fields(given: Iterable[str]) -> dict[str, Any]:
    """FIELD=VALUE of each; a VALUE that isn't JSON is text. `BadChoiceError`."""
    found: dict[str, Any] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not name or not equals:
            raise BadChoiceError(f"{one[:SHOWN]!r} isn't FIELD=VALUE")
        if name in found:
            raise BadChoiceError(f"{name[:SHOWN]} is given twice")
        try:
            found[name] = strictjson.parse(text)
        except strictjson.NotJsonError:
            found[name] = text
    return found
