"""Servers that take connections and never answer: each command ends, and says who didn't."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from agents.settings import LOCAL_PARTITIONS, Settings
from tests.live.helpers import environment, soma

COMMANDS = {
    "watch cog.observations --no-follow": "Kafka at ",
    "config get acme": "Kafka at ",
    "gateway status": "No Kafka broker answers at ",
    "topics plan": "No Kafka broker answers at ",
    "doctor --hanging": "No Kafka broker answers at ",
    "doctor": "PostgreSQL (SOMA_POSTGRES_DSN) doesn't answer: no answer in time",
    "projection list": "PostgreSQL: no answer in time",
    "outbox summary": "PostgreSQL: no answer in time",
}


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """The port of a server that accepts and says nothing."""
    held: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                held.append(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10.0)
            for one in held:
                one.close()


@pytest.mark.slow
def test_every_command_ends_and_names_the_server_that_does_not_answer(tmp_path: Path) -> None:
    with silent() as port, ThreadPoolExecutor(len(COMMANDS)) as pool:
        settings = Settings(
            home=tmp_path,
            kafka_bootstrap=f"127.0.0.1:{port}",
            redis_url=SecretStr(f"redis://127.0.0.1:{port}/0"),
            postgres_dsn=SecretStr(f"postgresql://soma:Secret@127.0.0.1:{port}/soma"),
            topics_partitions=LOCAL_PARTITIONS,
        )
        env = environment(settings)
        running = {
            words: pool.submit(soma, *words.split(), env=env, timeout=90.0) for words in COMMANDS
        }
        done = {words: one.result() for words, one in running.items()}
    for words, one in done.items():
        told = one.stdout + one.stderr
        assert one.returncode == 1, (words, told)
        assert COMMANDS[words] in told, (words, told)
        assert "Traceback" not in told and "Secret" not in told, (words, told)
