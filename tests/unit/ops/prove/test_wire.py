"""The verifier takes a value for JSON where the processors do, and refuses a name given twice."""

import pytest

from ops.prove.wire import UnreadableError, Wire
from topics import codec
from topics.strictjson import begins_object

WIRE = Wire()
GOOD = b'{"tenant": "a", "domain": "d", "ts": "2026-01-31T12:00:00Z", "vector": [1, 2]}'


@pytest.mark.parametrize("start", [b"", b" ", b"\r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_an_object_may_have_something_in_front(start: bytes) -> None:
    name, record = WIRE.decode(start + GOOD, "observation")
    assert begins_object(start + GOOD)
    assert (name, record) == ("observation", codec.from_json("observation", start + GOOD))


def test_a_name_given_twice_is_refused() -> None:
    twice = GOOD.replace(b'"domain"', b'"tenant": "b", "domain"')
    with pytest.raises(UnreadableError, match="twice"):
        WIRE.decode(twice, "observation")
    with pytest.raises(codec.BadRecord, match="given twice"):
        codec.from_json("observation", twice)


def test_other_bytes_in_front_are_no_json() -> None:
    for start in (b"\x0b", b"x", b"\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"):
        assert not begins_object(start + GOOD)
        with pytest.raises(UnreadableError, match="neither"):
            WIRE.decode(start + GOOD, "observation")
