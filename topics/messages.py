"""A consumed message's headers, whatever their names are."""

from operator import methodcaller

from confluent_kafka import Message

Headers = list[tuple[str, bytes | None]]

# A header whose name isn't UTF-8 makes confluent-kafka (2.16) return a list with a hole, and leave
# an error set. Called so, the interpreter looks for that error; a plain call that runs often is
# specialised and doesn't, and whoever then walks the list ends the process.
_asked = methodcaller("headers")


def headers_of(message: Message) -> Headers:
    """A message's headers, in order; none where a name of them isn't UTF-8. Ask once."""
    try:
        found = _asked(message)
    except (UnicodeDecodeError, SystemError):
        return []
    return [(name, as_bytes(text)) for name, text in found or ()]


def as_bytes(given: str | bytes | None) -> bytes | None:
    """A key, value or header of a client that may give text."""
    return given.encode() if isinstance(given, str) else given
