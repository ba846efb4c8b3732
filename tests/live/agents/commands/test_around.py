"""What is wrong around a command is said in one line, before anything is done."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agents.settings import Settings
from ops.stack.ports import free_port
from tests.live.helpers import REPO, environment, soma, topics_of

MADE = topics_of("integrator", "projections")


def lines(settings: Settings, *words: str, **env: str) -> list[str]:
    """What a command says that must be refused."""
    done = soma(
        *words, env=environment(settings, **{"SOMA_AGENTS": "integrator", **env}), timeout=120
    )
    assert done.returncode not in (0, 70), done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


def test_a_workers_port_that_another_has(topics: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = lines(topics, "worker", SOMA_WEB_PORT=port)
    assert said[-1].startswith(f"soma worker: SOMA_WEB_PORT: 127.0.0.1:{port} can't be had")


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1"])
def test_a_workers_host_that_is_nobodys(topics: Settings, host: str) -> None:
    said = lines(topics, "worker", SOMA_WEB_HOST=host, SOMA_WEB_PORT=str(free_port()))
    assert said[-1].startswith(f"soma worker: SOMA_WEB_HOST: {host} is no address of this machine")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SOMA_POSTGRES_DSN", "foo"),
        ("SOMA_POSTGRES_DSN", "postgresql://u:geheim@127.0.0.1:1/x?sslmode=geheim"),
        ("SOMA_REDIS_URL", "foo"),
        ("SOMA_REDIS_URL", "redis://127.0.0.1:1/0?db=geheim"),
    ],
)
def test_a_store_whose_address_cannot_be_read(topics: Settings, name: str, value: str) -> None:
    agents = "integrator,projections"
    said = lines(topics, "worker", **{name: value, "SOMA_WEB_PORT": "0", "SOMA_AGENTS": agents})
    assert name in said[-1] and ": give " in said[-1]
    assert "geheim" not in "".join(said)


@pytest.mark.parametrize("verb", [("worker",), ("topics", "check"), ("watch", "cog.segments")])
def test_an_address_is_read_alike_everywhere(topics: Settings, verb: tuple[str, ...]) -> None:
    address = f"PLAINTEXT://{topics.bootstrap()}"
    said = "\n".join(lines(topics, *verb, SOMA_KAFKA_BOOTSTRAP=address))
    assert "SOMA_KAFKA_BOOTSTRAP: address 1 begins with a protocol" in said


@pytest.mark.parametrize("verb", [("topics", "check"), ("watch", "cog.segments"), ("doctor",)])
def test_a_property_that_there_is_not(topics: Settings, verb: tuple[str, ...]) -> None:
    done = soma(*verb, env=environment(topics, SOMA_KAFKA_PROPERTIES="no.such=1"), timeout=60)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert 'No such configuration property: "no.such"' in done.stdout + done.stderr


def test_a_worker_tells_a_property_that_there_is_not_as_other_commands_do(topics: Settings) -> None:
    said = lines(topics, "worker", SOMA_KAFKA_PROPERTIES="no.such=1")
    assert said[-1] == 'soma worker: Kafka: No such configuration property: "no.such"'


def test_a_password_with_a_comma_is_never_shown(topics: Settings) -> None:
    given = "security.protocol=sasl_plaintext,sasl.password=hidden1,hidden2=x"
    said = "\n".join(lines(topics, "topics", "check", SOMA_KAFKA_PROPERTIES=given))
    assert "or a JSON object where a value has a comma" in said
    assert "hidden" not in said


@pytest.mark.parametrize("words", ["settings print", "--help", "--version", "worker --help"])
def test_a_disk_that_is_full(topics: Settings, words: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agents.cli", *words.split()],
            env=environment(topics),
            cwd=REPO,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "Error: No space left on device: the output\n"


def test_a_home_that_cannot_be_had(topics: Settings) -> None:
    said = "\n".join(lines(topics, "worker", SOMA_HOME="~nobody-of-this-name/soma"))
    assert "SOMA_HOME: ~nobody-of-this-name/soma can't be found" in said
    said = "\n".join(lines(topics, "stack", "up", SOMA_HOME="/proc/soma", SOMA_REDIS_URL=""))
    assert "/proc/soma can't be made (No such file or directory): set SOMA_HOME" in said
    said = "\n".join(lines(topics, "worker", SOMA_HOME="/proc/soma", SOMA_WEB_PORT="0"))
    assert "/proc/soma/worker can't be made" in said
