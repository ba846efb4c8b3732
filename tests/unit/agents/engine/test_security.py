"""librdkafka's properties, understood by the worker's other clients too, or refused by name."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka.client import AIOKafkaClient

from agents.engine.security import credentials, security
from agents.settings import Settings

# An authority that nobody trusts: openssl req -x509 -newkey ec -nodes -subj "/CN=…"
AUTHORITY = """\
-----BEGIN CERTIFICATE-----
MIIBjzCCATWgAwIBAgIUCygfYwWvP8/qapZi6B0NkBC5SM4wCgYIKoZIzj0EAwIw
HDEaMBgGA1UEAwwRU29tYSBTdHJlYW0gdGVzdHMwIBcNMjYxMTIxMTQxNzQxWhgP
MjEyNjEwMjgxNDE3NDFaMBwxGjAYBgNVBAMMEVNvbWEgU3RyZWFtIHRlc3RzMFkw
EwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEVhUQzJG1EWokkWcXb4DqXSJqDCns1g89
Kd72ypdYmsSQwQocDaBxvBqRSQOHbJyUq2Yp4mq/VRvtaOXw749fs6NTMFEwHQYD
VR0OBBYEFJOtkFgX4o4gKt07Q+8OhPJynOV3MB8GA1UdIwQYMBaAFJOtkFgX4o4g
Kt07Q+8OhPJynOV3MA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIg
BWKzaLuvMynDyOiDNfqWfqGDNXqncD9CZGwyw1qPn54CIQCgzYYH3fm4n/QmiKkW
Uw/ht2AE/JhzSclylXgB7RPzDg==
-----END CERTIFICATE-----
"""
USER = {"sasl.username": "soma", "sasl.password": "no secret"}


def given(**properties: str) -> Settings:
    named = {name.replace("_", "."): value for name, value in properties.items()}
    return Settings(kafka_bootstrap="127.0.0.1:1", kafka_properties=named)


def sasl(protocol: str, **more: str) -> Settings:
    return given(**{"security.protocol": protocol, "sasl.mechanism": "PLAIN"} | USER | more)


@pytest.fixture
def authority(tmp_path: Path) -> str:
    (tmp_path / "ca.pem").write_text(AUTHORITY)
    return str(tmp_path / "ca.pem")


def test_without_properties_there_is_no_security() -> None:
    assert security(given()) == {"security_protocol": "PLAINTEXT"}
    assert security(given(security_protocol="plaintext")) == {"security_protocol": "PLAINTEXT"}
    assert credentials(given()) is None


def test_properties_that_are_not_about_security_are_librdkafkas_own() -> None:
    assert security(given(socket_keepalive_enable="true")) == {"security_protocol": "PLAINTEXT"}


def test_sasl_by_name_and_password() -> None:
    for name in ("sasl.mechanism", "sasl.mechanisms"):
        settings = given(**{"security.protocol": "sasl_plaintext", name: "scram-sha-512"} | USER)
        assert security(settings) == {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "soma",
            "sasl_plain_password": "no secret",
        }
        mine = credentials(settings)
        assert isinstance(mine, faust.SASLCredentials)
        assert mine.protocol.value == "SASL_PLAINTEXT" and mine.mechanism.value == "SCRAM-SHA-512"
        assert (mine.username, mine.password, mine.ssl_context) == ("soma", "no secret", None)
        assert "no secret" not in repr(mine)


def test_tls_trusts_the_given_authority_and_checks_names(authority: str) -> None:
    settings = given(security_protocol="SSL", ssl_ca_location=authority)
    found = security(settings)
    context: ssl.SSLContext = found["ssl_context"]
    assert found["security_protocol"] == "SSL" and set(found) == {
        "security_protocol",
        "ssl_context",
    }
    assert context.check_hostname and context.verify_mode == ssl.CERT_REQUIRED
    assert len(context.get_ca_certs()) == 1
    mine = credentials(settings)
    assert isinstance(mine, faust.SSLCredentials) and mine.protocol.value == "SSL"
    assert mine.context.check_hostname


def test_sasl_over_tls(authority: str) -> None:
    settings = sasl("SASL_SSL", ssl_ca_location=authority)
    found, mine = security(settings), credentials(settings)
    assert found["sasl_plain_username"] == "soma" and found["ssl_context"].check_hostname
    assert isinstance(mine, faust.SASLCredentials) and mine.protocol.value == "SASL_SSL"
    assert mine.ssl_context is not None and mine.mechanism.value == "PLAIN"


async def aiokafka_takes(settings: Settings) -> None:
    await AIOKafkaClient(bootstrap_servers="127.0.0.1:1", **security(settings)).close()


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_aiokafka_takes_what_it_is_given(protocol: str, authority: str) -> None:
    asyncio.run(aiokafka_takes(sasl(protocol, ssl_ca_location=authority)))


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"security.protocol": "TLS"}, "security.protocol TLS"),
        ({"security.protocol": "SASL_SSL"}, "sasl.mechanism ''"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "'GSSAPI'"),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"},
            "needs sasl.username and sasl.password",
        ),
        (
            {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "u"},
            "needs sasl.password",
        ),
        (
            {"ssl.keystore.location": "/dev/null", "enable.ssl.certificate.verification": "false"},
            "enable.ssl.certificate.verification, ssl.keystore.location",
        ),
        ({"security.protocol": "SSL", "ssl.ca.location": "/none.pem"}, "ssl.ca.location /none.pem"),
    ],
)
def test_what_a_worker_cannot_do_is_refused_by_name(properties: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        security(given(**properties))


def test_a_key_that_is_none_is_refused(authority: str) -> None:
    settings = given(
        security_protocol="SSL", ssl_certificate_location=authority, ssl_key_location=authority
    )
    with pytest.raises(ValueError, match=r"ssl\.key\.location"):
        security(settings)
