"""Requests whose body's end is said twice or in two ways."""

import h11
import pytest

from agents.api.framing import Connection

POST = b"POST /memories HTTP/1.1\r\nhost: x\r\n"
SMUGGLED = b"0\r\n\r\nGET /admin HTTP/1.1\r\nhost: x\r\n\r\n"


def asked(data: bytes, size: int = 1 << 16) -> list[object]:
    """The events of a request that comes in pieces of this size."""
    connection = Connection(h11.SERVER, 4096)
    found: list[object] = []
    for first in range(0, len(data), size):
        connection.receive_data(data[first : first + size])
        while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
            found.append(event)
    return found


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    "fields",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"transfer-encoding: chunked\r\nx: y\r\n content-length: 5",
        b"content-length: 5\r\ncontent-length: 5",
        b"content-length: 5\r\ncontent-length: 6",
        b"Content-Length: 5, 5",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"transfer-encoding: gzip, chunked",
    ],
)
def test_two_ends_of_a_body_are_refused(fields: bytes, size: int) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        asked(POST + fields + b"\r\n\r\n" + SMUGGLED, size)


def test_http_1_0_has_no_chunks() -> None:
    with pytest.raises(h11.RemoteProtocolError, match=r"HTTP/1\.0"):
        asked(b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n" + SMUGGLED)


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_one_end_is_right_and_a_body_may_say_what_it_likes(size: int) -> None:
    text = b"content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n"
    events = asked(POST + b"content-length: %d\r\n\r\n" % len(text) + text, size)
    assert b"".join(one.data for one in events if isinstance(one, h11.Data)) == text
    assert isinstance(events[-1], h11.EndOfMessage)
    chunked = b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert isinstance(asked(POST + chunked, size)[-1], h11.EndOfMessage)
