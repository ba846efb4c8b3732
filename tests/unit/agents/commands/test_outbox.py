"""What `soma outbox` and `soma relay` refuse before they speak to any server."""

import json
import socket

import pytest
from click.testing import CliRunner

from agents.cli import main
from topics.catalogue import CATALOGUE

ADD = ("outbox", "add", "memory.events", "a", "{}", "--dedupe-key", "k")


def soma(*words: str, **env: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, words, env=env, catch_exceptions=False)
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("outbox", "replay", "42", "--topic", "x"), "--topic: with --tenant only"),
        (("outbox", "replay", "42", "--status", "failed", "--limit", "1000"), "--status, --limit"),
        (("outbox", "replay", "42", "--before", "2026-01-31"), "--before"),
        (("outbox", "limit", "a", "9" * 5000), "a number up to 1,000,000,000"),
        (("outbox", "limit", "a", "\N{ARABIC-INDIC DIGIT FIVE}"), "a number up to"),
        ((*ADD, "--header", "ce_id=5"), "ce_id is ours"),
        ((*ADD, "--header", "Tenant-Id=b"), "Tenant-Id is ours"),
        ((*ADD[:4], '{"a": 1, "a": 2}', *ADD[5:]), '"a": given twice'),
        ((*ADD[:4], '{"a": ', *ADD[5:]), "not JSON"),
    ],
)
def test_what_would_be_ignored_or_is_no_number_is_named(words: tuple[str, ...], named: str) -> None:
    status, text = soma(*words)
    assert status == 2
    assert named in " ".join(text.split())


@pytest.mark.parametrize("words", [("publish", "x"), ("outbox", "add", "x", *ADD[3:])])
def test_an_unknown_topic_is_answered_with_those_for_users(words: tuple[str, ...]) -> None:
    status, text = soma(*words)
    assert status == 1
    shown = {line.strip() for line in text.splitlines() if line.startswith("  ")}
    assert shown == {name for name, topic in CATALOGUE.items() if topic.public}


def test_what_operators_write_does_not_go_through_the_outbox() -> None:
    status, text = soma("outbox", "add", "soma.admin.replay", *ADD[3:])
    assert status == 1 and "soma.admin.replay isn't written by tenants" in text


def test_what_is_printed_is_one_json_object_if_wanted() -> None:
    runner, secret = CliRunner(), {"SOMA_API__JWT_SECRET": "a secret of thirty-two bytes, no less"}
    token = ["api", "token", "--tenant", "a", "--role", "write", "--json"]
    said = json.loads(runner.invoke(main, token, env=secret).stdout)
    assert said["ttl_s"] == 3600 and said["token"].count(".") == 2
    said = json.loads(runner.invoke(main, ["migrate", "grants", "bob", "--json"]).stdout)
    assert (said["role"], said["for"]) == ("bob", "worker") and 'TO "bob";' in said["sql"]


def test_a_relay_whose_port_for_metrics_is_taken_says_so() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, text = soma(
            "relay", "--metrics-port", port, SOMA_WEB_HOST="127.0.0.1",
            SOMA_KAFKA_BOOTSTRAP="127.0.0.1:1", SOMA_POSTGRES_DSN="postgresql://127.0.0.1:1/x",
        )  # fmt: skip
    assert status == 1
    assert text.startswith("Error: ") and port in text and "in use" in text


def test_a_relay_whose_host_for_metrics_is_nobodys_says_so() -> None:
    status, text = soma(
        "relay", "--metrics-port", "9100", SOMA_WEB_HOST="999.1.1.1",
        SOMA_KAFKA_BOOTSTRAP="127.0.0.1:1", SOMA_POSTGRES_DSN="postgresql://127.0.0.1:1/x",
    )  # fmt: skip
    assert status == 1
    assert text.startswith("Error: SOMA_WEB_HOST: 999.1.1.1 is no address of this machine")


@pytest.mark.parametrize("verb", ["relay", "api"])
def test_a_dsn_that_cannot_be_read_is_told_at_the_start(verb: str) -> None:
    wrong = "postgresql://u:geheim@db/x?sslmode=geheim"
    status, text = soma(
        verb, SOMA_KAFKA_BOOTSTRAP="127.0.0.1:1", SOMA_POSTGRES_DSN=wrong, SOMA_API__AUTH="off"
    )
    assert status == 1 and "geheim" not in text
    assert text.startswith("Error: PostgreSQL: its DSN (SOMA_POSTGRES_DSN) can't be read: give")
