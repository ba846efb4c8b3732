"""One way to write down how a broker is reached, librdkafka's, for the other clients too."""

import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.helpers import create_ssl_context

from agents.settings import Settings

if TYPE_CHECKING:
    import faust

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_KNOWN = (
    "security.protocol", "sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password",
    "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
)  # fmt: skip
_ABOUT = ("security.", "sasl.", "ssl.", "enable.ssl.", "enable.sasl.")


def security(settings: Settings) -> dict[str, Any]:
    """aiokafka's arguments for the librdkafka properties that secure a connection.

    Raises ValueError for what aiokafka can't do: a worker must not go on with less than was asked.
    """
    given = settings.kafka_properties
    if unknown := [name for name in given if name.startswith(_ABOUT) and name not in _KNOWN]:
        raise ValueError(
            f"SOMA_KAFKA_PROPERTIES: a worker can't obey {', '.join(sorted(unknown))}; it knows "
            + ", ".join(_KNOWN)
        )
    protocol = given.get("security.protocol", "plaintext").upper()
    if protocol not in PROTOCOLS:
        raise ValueError(f"security.protocol {protocol}: a worker knows {', '.join(PROTOCOLS)}")
    found: dict[str, Any] = {"security_protocol": protocol}
    if protocol.startswith("SASL"):
        found |= _sasl(given)
    if protocol.endswith("SSL"):
        found["ssl_context"] = _context(given)
    return found


def _context(given: dict[str, str]) -> ssl.SSLContext:
    names = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
    ca, certificate, key = (given.get(name) for name in names)
    # Without a password OpenSSL would ask for one at the terminal.
    password = given.get("ssl.key.password", "")
    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=ca, certfile=certificate, keyfile=key, password=password
        )
    except OSError as error:
        files = ", ".join(f"{name} {given[name]}" for name in names if name in given)
        raise ValueError(f"these can't be used: {files}: {error}") from error
    return context


def _sasl(given: dict[str, str]) -> dict[str, Any]:
    mechanism = given.get("sasl.mechanism", given.get("sasl.mechanisms", "")).upper()
    if mechanism not in MECHANISMS:
        raise ValueError(f"sasl.mechanism {mechanism!r}: a worker knows {', '.join(MECHANISMS)}")
    lacking = [name for name in ("sasl.username", "sasl.password") if not given.get(name)]
    if lacking:
        raise ValueError(f"sasl.mechanism {mechanism} needs {' and '.join(lacking)}")
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": given["sasl.username"],
        "sasl_plain_password": given["sasl.password"],
    }


def credentials(
    settings: Settings,
) -> "faust.SSLCredentials | faust.SASLCredentials | None":
    """The same for Faust's consumer; None: no security."""
    import faust  # the HTTP API does without

    found = security(settings)
    context = found.get("ssl_context")
    if "sasl_mechanism" in found:
        return faust.SASLCredentials(
            username=found["sasl_plain_username"],
            password=found["sasl_plain_password"],
            mechanism=found["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)
