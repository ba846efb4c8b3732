"""aiokafka's clients, made to fail by the right name, and to be let go whatever fails.

Under uvloop a write to a transport that has just closed raises RuntimeError, where asyncio's own
loop only warns. aiokafka takes that for a defect: it ends the client's metadata task, which nobody
looks at, and from then on every wait for metadata lasts for ever. Here it becomes the broken
connection that it is. And a broker that has just started may name no nodes, itself neither, which
aiokafka asserts it does: that is a node that isn't ready. And a client that is let go while it
bootstraps would leave its first connection open, for only `bootstrap` itself knows of it. And a
batch or a transaction that fails says so in futures that nobody need look at, of which asyncio
complains. The hooks are pinned by tests/contract/test_private_interfaces.py.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError
from aiokafka.producer.message_accumulator import MessageBatch
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

JOIN_S = 90.0  # the group's coordinator answers these when the others have joined too
_WAITING = (JoinGroupRequest, SyncGroupRequest)

_send = AIOKafkaConnection.send
_send_token = AIOKafkaConnection._send_sasl_token
_lookup = AIOKafkaClient.coordinator_lookup
_bootstrap = AIOKafkaClient.bootstrap
_connect = AIOKafkaConnection.connect
_fail = MessageBatch.failure
_fatal = TransactionManager.fatal_error
_error = TransactionManager.error_transaction
_opened: dict[Any, list[AIOKafkaConnection]] = {}  # by tasks that bootstrap a client


class ClientEndedError(KafkaError):  # type: ignore[misc]
    """A task of the client's own has ended: whoever waits for what it does would wait for ever."""


def install() -> None:
    """Put the hooks in place, for every aiokafka client of this process."""
    AIOKafkaConnection.send = _sending
    AIOKafkaConnection._send_sasl_token = _sending_token
    AIOKafkaClient.coordinator_lookup = _looking_up
    AIOKafkaClient.bootstrap = _bootstrapping
    AIOKafkaConnection.connect = _connecting
    MessageBatch.failure = _failing
    TransactionManager.fatal_error = _failing_for_good
    TransactionManager.error_transaction = _failing_for_now


def _sending(self: Any, request: Any, expect_response: bool = True) -> Any:
    usual = self._request_timeout
    if isinstance(request, _WAITING):
        self._request_timeout = max(usual, JOIN_S)
    try:
        return _broken(self, lambda: _send(self, request, expect_response))
    finally:
        self._request_timeout = usual


def _sending_token(self: Any, payload: bytes, expect_response: bool = True) -> Any:
    return _broken(self, lambda: _send_token(self, payload, expect_response))


async def _bootstrapping(self: Any) -> None:
    task = asyncio.current_task()
    opened = _opened[task] = []
    try:
        await _bootstrap(self)
    except BaseException:
        for connection in opened:
            connection.close(reason=CloseReason.SHUTDOWN)
        raise
    finally:
        del _opened[task]


async def _connecting(self: Any) -> Any:
    if (opened := _opened.get(asyncio.current_task())) is not None:
        opened.append(self)
    return await _connect(self)


async def _looking_up(self: Any, kind: Any, key: str) -> Any:
    if self.get_random_node() is None:
        raise NodeNotReadyError("no broker is known yet")
    return await _lookup(self, kind, key)


def _failing(self: Any, exception: BaseException) -> None:
    _fail(self, exception)
    heard(self._drain_waiter)


def _failing_for_good(self: Any, exc: BaseException) -> None:
    _fatal(self, exc)
    heard(self._transaction_waiter)


def _failing_for_now(self: Any, exc: BaseException) -> None:
    _error(self, exc)
    heard(self._transaction_waiter)


def _broken(connection: Any, write: Callable[[], Any]) -> Any:
    """What `write` returns. KafkaConnectionError, where the loop says that the transport closed."""
    try:
        return write()
    except KafkaError:  # which aiokafka derives from RuntimeError
        raise
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        raise KafkaConnectionError(
            f"Connection at {connection.host}:{connection.port} broken: {error}"
        ) from error


def answer_within(client: AIOKafkaClient, seconds: float) -> None:
    """Each answer of the broker within so long, but those that wait for others' joining."""
    client._request_timeout_ms = int(seconds * 1000)


def tasks_of(client: AIOKafkaProducer | AIOKafkaConsumer) -> dict[str, Any]:
    """The tasks without which a client does nothing, by name; what hasn't begun isn't there."""
    if isinstance(client, AIOKafkaProducer):
        found = {"metadata": client.client._sync_task, "sender": client._sender.sender_task}
    else:
        found = {"metadata": client._client._sync_task}
        if client._fetcher is not None:
            found["fetcher"] = client._fetcher._fetch_task
        if client._coordinator is not None and client._group_id is not None:
            found["coordination"] = client._coordinator._coordination_task
    return {name: task for name, task in found.items() if task is not None}


def ended(client: AIOKafkaProducer | AIOKafkaConsumer) -> str:
    """Which task of a client that is in use has ended, and why; empty: none."""
    for name, task in tasks_of(client).items():
        if task.done():
            why = "cancelled" if task.cancelled() else repr(task.exception())
            return f"its {name} task has ended: {why}"
    return ""


def abandon(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Let a client go at once that can't be stopped: its tasks, whoever waits, its connections.

    Must be called in the client's own loop.
    """
    client._closed = True
    for task in list(_all_tasks(client)):
        task.cancel()
        task.add_done_callback(heard)
    inner = client.client if isinstance(client, AIOKafkaProducer) else client._client
    if inner._md_update_fut is None:
        inner._md_update_fut = inner._loop.create_future()
    # Who waits for metadata would do so for ever: its task has just been cancelled.
    inner._md_update_fut.cancel()
    for connection in list(inner._conns.values()):
        connection.close(reason=CloseReason.SHUTDOWN)


def heard(future: "asyncio.Future[Any]") -> None:
    """Its error is told elsewhere, or of no interest; asyncio needn't say that nobody looked."""
    if not future.cancelled():
        future.exception()


def _all_tasks(client: AIOKafkaProducer | AIOKafkaConsumer) -> Iterator[Any]:
    yield from tasks_of(client).values()
    if isinstance(client, AIOKafkaConsumer):
        if client._coordinator is not None and client._group_id is not None:
            others = (client._coordinator._heartbeat_task, client._coordinator._commit_refresh_task)
            yield from (task for task in others if task is not None)
        else:  # a consumer beside a group has this one, which waits for another assignment
            task = getattr(client._coordinator, "_reset_committed_task", None)
            yield from (task,) if task is not None else ()
        if client._fetcher is not None:
            yield from client._fetcher._pending_tasks


install()
