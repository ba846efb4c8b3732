"""Ports on the loopback interface: kept from start to start, changed when somebody took them."""

import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from ops.stack.processes import StackError, wait_until

HOST = "127.0.0.1"
RANGE = range(20_000, 32_000)
KEPT_S = 10.0  # for all of them


def answers(port: int, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections at the port."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def choose(names: Iterable[str], kept: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name: the kept one where it is still free."""
    ports: dict[str, int] = {}
    deadline = time.monotonic() + KEPT_S
    for name in names:
        port = kept.get(name)
        # A server that was killed a moment ago may still hold its own: clients know it by that.
        left = deadline - time.monotonic()
        if port is None or not wait_until(partial(_free, port), left):
            port = next(one for one in _random() if one not in ports.values() and _free(one))
        ports[name] = port
    return ports


def free_port() -> int:
    """A port that nobody has now."""
    return choose(("",), {})[""]


def _random() -> Iterator[int]:
    """Ports that the system doesn't give to outgoing connections while the server is down."""
    for _ in range(1000):
        yield secrets.choice(RANGE)
    raise StackError(f"no free port was found from {RANGE[0]} to {RANGE[-1]}")


def _free(port: int) -> bool:
    try:
        _bound(port).close()
    except OSError:
        return False
    return True


def _bound(port: int) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As the servers do: connections of the last start that linger don't make a port taken.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((HOST, port))
    except OSError:
        one.close()
        raise
    return one
