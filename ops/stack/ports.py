"""Ports on the loopback interface: kept from start to start, changed when somebody took them."""

import socket
from collections.abc import Iterable, Mapping

HOST = "127.0.0.1"


def answers(port: int, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections at the port."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def choose(names: Iterable[str], kept: Mapping[str, int]) -> dict[str, int]:
    """A free port for each name: the kept one where it is still free."""
    ports = {name: kept[name] for name in names if name in kept and _free(kept[name])}
    with_sockets: list[socket.socket] = []
    try:
        for name in names:
            if name not in ports:
                # All are held until all are chosen: no port is given twice.
                one = _bound(0)
                with_sockets.append(one)
                ports[name] = one.getsockname()[1]
    finally:
        for one in with_sockets:
            one.close()
    return ports


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
