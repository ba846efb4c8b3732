"""Lines of standard input, whatever they are."""

import io
import json

from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCError

from agents.mcp.lines import TooLong, lines_of, read

MOST = 64
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'


@given(st.lists(st.binary(max_size=200).map(lambda one: one.replace(b"\n", b"")), max_size=6))
def test_each_line_is_one_and_none_is_longer_than_allowed(given: list[bytes]) -> None:
    source = io.BytesIO(b"".join(one + b"\n" for one in given))
    found = list(lines_of(source, MOST))
    assert found == [one if len(one) > MOST else one + b"\n" for one in given]
    assert [isinstance(one, TooLong) for one in found] == [len(one) > MOST for one in given]


def test_a_long_line_without_an_end_is_passed_over() -> None:
    (found,) = lines_of(io.BytesIO(b"x" * 1_000_000), MOST)
    assert isinstance(found, TooLong) and found == b"x" * (MOST + 1)


@given(st.binary(max_size=300))
def test_whatever_comes_is_a_message_or_a_named_error(line: bytes) -> None:
    found = read(line, MOST)
    if isinstance(found, JSONRPCError):
        assert found.error.code in (PARSE_ERROR, INVALID_REQUEST) and found.error.message
    else:
        json.loads(line)


def test_what_is_wrong_is_said() -> None:
    assert isinstance(read(PING, MOST), SessionMessage)
    deep = b'{"jsonrpc":"2.0","id":1,"method":"a","params":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    named = b'{"jsonrpc":"2.0","id":"a-1","method":"tools/call","params":{"id":2'
    wrong: tuple[tuple[bytes, str, int | str | None], ...] = (
        (TooLong(named), "at most 64 bytes", "a-1"), (TooLong(b"x"), "at most 64 bytes", None),
        (b"\xff\xfe", "isn't JSON", None), (deep, "isn't JSON", None),
        (b"[]", "no JSON-RPC message", None), (b'{"jsonrpc":"2.0"}', "no JSON-RPC message", None),
        (b'{"jsonrpc":"2.0","id":5,"method":6}', "no JSON-RPC message", 5),
        (b'{"id":true,"method":6}', "no JSON-RPC message", None),
    )  # fmt: skip
    for line, said, request_id in wrong:
        found = read(line, MOST)
        assert isinstance(found, JSONRPCError) and said in found.error.message, (line, found)
        assert found.id == request_id
