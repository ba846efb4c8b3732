"""Standard input and output as a client of one agent: a message a line, of a bounded length.

The SDK's own transport reads lines of any length, and says nothing to what it can't read. Here each
has an answer, an error where it is no message, and the next line is read.
"""

import asyncio
import json
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import BinaryIO

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

CHUNK = 65_536  # bytes passed over at a time, of a line that is too long
HEAD = 256  # bytes of a line that is too long, where its id is looked for
STDIN, STDOUT, STDERR = 0, 1, 2
# As clients write them: the id before the method and all that is nested.
REQUEST = re.compile(rb'\{"jsonrpc": ?"2\.0", ?"id": ?(\d{1,15}|"[\w.-]{1,64}"),')

Streams = tuple[
    MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
]


class TooLong(bytes):
    """How a line begins that is longer than is taken."""


def lines_of(source: BinaryIO, most: int) -> Iterator[bytes]:
    """The lines of a stream; of one of more than `most` bytes how it begins."""
    while line := source.readline(most + 1):
        if len(line) <= most or line.endswith(b"\n"):
            yield line
            continue
        while (rest := source.readline(CHUNK)) and not rest.endswith(b"\n"):
            pass
        yield TooLong(line[:HEAD])


def read(line: bytes, most: int) -> SessionMessage | JSONRPCError:
    """The message of a line, or what is wrong with it: of the request's id, where that is seen."""
    if isinstance(line, TooLong):
        named = REQUEST.match(line)
        too_long = f"A message has at most {most} bytes."
        return _error(json.loads(named[1]) if named else None, INVALID_REQUEST, too_long)
    try:
        value = from_json(line)
    except ValueError as error:
        return _error(None, PARSE_ERROR, f"The line isn't JSON: {error}")
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_python(value, by_name=False))
    except ValidationError:
        told = value.get("id") if isinstance(value, dict) else None
        known = told if isinstance(told, int | str) and not isinstance(told, bool) else None
        return _error(known, INVALID_REQUEST, "The line is no JSON-RPC message.")


def _error(request_id: int | str | None, code: int, message: str) -> JSONRPCError:
    told = ErrorData(code=code, message=message)
    return JSONRPCError(jsonrpc="2.0", id=request_id, error=told)


class Pipes:
    """This process' standard input and output, for messages alone: what else is printed goes to
    standard error. Threads that wait for either end with the process, not it with them.
    """

    def __init__(self) -> None:
        self._in = os.fdopen(os.dup(STDIN), "rb")
        self._out = os.fdopen(os.dup(STDOUT), "wb", closefd=False)
        os.dup2(STDERR, STDOUT)
        self._writes: SimpleQueue[tuple[bytes, Callable[[bool], None]]] = SimpleQueue()
        threading.Thread(target=self._write_all, name="stdout", daemon=True).start()

    def read(self, each: Callable[[bytes], bool], most: int, ended: Callable[[], None]) -> None:
        """Hand each line to a function, in a thread, until it says no more."""

        def work() -> None:
            try:
                for line in lines_of(self._in, most):
                    if not each(line):
                        return
            except OSError:  # the terminal is gone
                pass
            ended()

        threading.Thread(target=work, name="stdin", daemon=True).start()

    async def write(self, data: bytes) -> bool:
        """Whether it was written; False: nobody reads any more."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def tell(fine: bool) -> None:
            loop.call_soon_threadsafe(_settle, done, fine)

        self._writes.put((data, tell))
        return await done

    def _write_all(self) -> None:
        while True:
            data, tell = self._writes.get()
            try:
                self._out.write(data)
                self._out.flush()
            except OSError:
                tell(False)
            else:
                tell(True)


@asynccontextmanager
async def streams(pipes: Pipes, most: int) -> AsyncIterator[Streams]:
    """The SDK's two streams over them; what is read ends where standard input does."""
    to_server, from_client = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    to_client, from_server = anyio.create_memory_object_stream[SessionMessage](0)
    loop = asyncio.get_running_loop()

    async def take(line: bytes) -> bool:
        if not line.strip():
            return True
        found = read(line, most)
        try:
            if isinstance(found, SessionMessage):
                await to_server.send(found)
                return True
            return await pipes.write(_text(found))
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False

    def each(line: bytes) -> bool:
        return asyncio.run_coroutine_threadsafe(take(line), loop).result()

    def ended() -> None:
        loop.call_soon_threadsafe(to_server.close)

    async def write() -> None:
        async with from_server:
            async for one in from_server:
                if not await pipes.write(_text(one.message)):
                    return

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        pipes.read(each, most, ended)
        try:
            yield from_client, to_client
        finally:
            to_server.close()


def _settle(done: "asyncio.Future[bool]", fine: bool) -> None:
    if not done.done():  # whoever waited may be gone
        done.set_result(fine)


def _text(message: BaseModel) -> bytes:
    return f"{message.model_dump_json(by_alias=True, exclude_unset=True)}\n".encode()
