"""Where servers are, as settings have it: host:port, and URLs that may hold a password."""

import errno
import re
import socket
from pathlib import Path

HOST_MAX = 255
SERVER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
# librdkafka's properties that are files; its error names the property alone.
FILES = (
    "ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location",
    "ssl.crl.location",
)  # fmt: skip
# What the clients of PostgreSQL and Redis read, and an example of it.
POSTGRES = ("postgresql", "postgres"), "postgresql://user:password@host:port/db"
REDIS = ("redis", "rediss", "unix"), "redis://host:port/0"
PROBE = "probe"  # librdkafka's word for the usual places


def servers(value: str) -> str:
    """host:port, with commas between: what every client of ours reads in the same way."""
    found = [one.strip() for one in value.split(",") if one.strip()]
    for place, one in enumerate(found, 1):
        if "://" in one:
            raise ValueError(
                f"address {place} begins with a protocol: give host:port, and the protocol as "
                "security.protocol in SOMA_KAFKA_PROPERTIES"
            )
        host, _, port = one.rpartition(":")
        _check_host(host)
        if not SERVER.fullmatch(one) or int(port) not in range(1, 65_536):
            raise ValueError(f"address {place} isn't host:port (or [IPv6]:port)")
    return ",".join(found)


def store(value: str, kind: tuple[tuple[str, ...], str]) -> str:
    """A store's URL of this kind (POSTGRES, REDIS), as `url`; empty where there is none."""
    schemes, example = kind
    protocol, between, _ = value.partition("://")
    if value and not (between and protocol in schemes):
        raise ValueError(f"give {example}")
    return url(value)


def url(value: str) -> str:
    """A URL whose hosts and ports can be; ValueError never shows a part of it."""
    place = re.split("[/?#]", value.partition("://")[2], maxsplit=1)[0].rpartition("@")[2]
    for one in place.split(","):  # PostgreSQL's may name several
        host, colon, port = one.rpartition(":")
        if colon and port.isdecimal() and int(port) not in range(1, 65_536):
            raise ValueError("its port isn't one of 1 to 65535")
        _check_host(host if colon else one)
    return value


def refused(error: OSError, at: tuple[str, int], names: tuple[str, str]) -> str:
    """Why nothing can listen at a host and port, with the name of the setting that is wrong."""
    (host, port), (of_host, of_port) = at, names
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{of_host}: {host} is no address of this machine ({error.strerror})"
    hint = ": another worker's? Set another port, or 0 for none"
    return f"{of_port}: {host}:{port} can't be had ({error.strerror})" + (
        hint if error.errno == errno.EADDRINUSE else ""
    )


def files(properties: dict[str, str]) -> None:
    """ValueError names a file of these that can't be read, and why."""
    for name in FILES:
        path = properties.get(name)
        if not path or path == PROBE:
            continue
        try:
            if not Path(path).is_dir():
                Path(path).open("rb").close()
        except OSError as error:
            raise ValueError(f"{name} {path} can't be read: {error.strerror}") from None


def _check_host(host: str) -> None:
    if len(host) > HOST_MAX:
        raise ValueError(f"a host's name has {HOST_MAX} characters at most")
