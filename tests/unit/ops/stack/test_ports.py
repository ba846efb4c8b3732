"""Ports: kept while they are free, never the same twice."""

import socket
import threading

from ops.stack import ports


def test_ports_are_free_and_differ() -> None:
    chosen = ports.choose(["a", "b", "c"], {})
    assert len(set(chosen.values())) == 3
    assert all(port in ports.RANGE for port in chosen.values())
    assert not any(ports.answers(port) for port in chosen.values())


def test_kept_ports_stay_unless_they_were_taken() -> None:
    kept = ports.choose(["a", "b"], {})
    assert ports.choose(["a", "b"], kept) == kept
    with socket.socket() as taker:
        taker.bind((ports.HOST, kept["a"]))
        taker.listen()
        assert ports.answers(kept["a"])
        again = ports.choose(["a", "b"], kept)
    assert again["b"] == kept["b"]
    assert again["a"] not in kept.values()


def test_a_port_that_becomes_free_is_waited_for() -> None:
    """A killed server's last thread may hold it for a while; clients look for it there."""
    kept = ports.choose(["a"], {})
    dying = socket.socket()
    dying.bind((ports.HOST, kept["a"]))
    gone = threading.Timer(2.5, dying.close)
    gone.start()
    assert ports.choose(["a"], kept) == kept
    gone.join()
