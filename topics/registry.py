"""A schema registry with Confluent's HTTP API: which one is chosen, and what is asked of it.

Confluent's own, Karapace, Redpanda's, or Apicurio's at /apis/ccompat/v7. The API: "Schema Registry
API Reference" of Confluent Platform, its parts Subjects, Schemas and Compatibility. Ids are needed
before there are settings, so these few are read here (settings check and show them too).
"""

import json
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

if TYPE_CHECKING:
    import httpx

URL = "SOMA_SCHEMA_REGISTRY_URL"
USER = "SOMA_SCHEMA_REGISTRY_USER"
PASSWORD = "SOMA_SCHEMA_REGISTRY_PASSWORD"
CA = "SOMA_SCHEMA_REGISTRY_CA"
TIMEOUT = "SOMA_SCHEMA_REGISTRY_TIMEOUT_S"
SECRETS_DIR = "SOMA_SECRETS_DIR"
HOME, USUAL_HOME = "SOMA_HOME", "~/.soma"
TIMEOUT_S = 5.0
BYTES_MAX = 4 << 20  # of an answer
SHOWN = 300  # letters of what it says
TYPE = "application/vnd.schemaregistry.v1+json"
NOT_THERE = (40401, 40402, 40403)  # Confluent's codes: no such subject, version, schema


class RegistryError(Exception):
    """What is wrong with the registry or with what it answers, by its name."""


class RegistryAway(RegistryError, OSError):
    """It doesn't answer, or not in time: this passes, so whoever can tries again."""

    def __str__(self) -> str:
        return str(self.args[0])  # OSError's own would show a number of two


class RegistryRefused(RegistryError):
    """It doesn't take a schema: incompatible by its rules, or invalid."""


@dataclass(frozen=True, slots=True)
class Access:
    """Where the registry is, and how to be let in."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca: str = ""  # PEM of whom to believe instead of the system's; empty: those
    timeout_s: float = TIMEOUT_S
    home: Path = field(default_factory=lambda: _expanded(USUAL_HOME))


def chosen() -> Access | None:
    """The registry that this installation's ids come from; None: they come from avro/ids.json."""
    url = _setting(URL)
    if not url:
        return None
    try:
        timeout = float(_setting(TIMEOUT) or TIMEOUT_S)
    except ValueError:  # `agents.settings` says so
        timeout = TIMEOUT_S
    home = _expanded(_setting(HOME) or USUAL_HOME)
    return Access(url, _setting(USER), _setting(PASSWORD), _setting(CA), timeout, home)


def _setting(name: str) -> str:
    """What the environment, or a file of SOMA_SECRETS_DIR, says; as settings do, in any case."""
    for known, text in os.environ.items():
        if known.upper() == name and text:
            return text
    folder = os.environ.get(SECRETS_DIR)
    try:
        found = (
            [one for one in Path(folder).iterdir() if one.name.upper() == name] if folder else []
        )
        return found[0].read_text("utf-8").strip() if found else ""
    except OSError:  # `agents.settings` says so
        return ""


def _expanded(home: str) -> Path:
    """Where there is no home, the tilde stays: `agents.settings` says so."""
    return Path(os.path.expanduser(home))  # noqa: PTH111


class Registry:
    """Asks the registry, each time within `timeout_s`. For one thread; to be closed (`with`)."""

    def __init__(self, access: Access) -> None:
        """RegistryError where SOMA_SCHEMA_REGISTRY_CA can't be used, or the URL has a password."""
        import httpx  # takes a tenth of a second: where there is a registry

        if "@" in access.url:  # it would be shown wherever it is named
            raise RegistryError(f"{URL}: give user and password as {USER} and {PASSWORD}")
        self.access = access
        auth = (access.user, access.password) if access.user or access.password else None
        self._client = httpx.Client(
            base_url=access.url.rstrip("/") + "/",
            auth=auth,
            verify=_believed(access.ca),
            timeout=access.timeout_s,
            headers={"Accept": f"{TYPE}, application/json", "Content-Type": TYPE},
            trust_env=False,  # settings come from our own tree alone
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def lookup(self, subject: str, schema: str) -> tuple[int, str] | None:
        """(id, schema) that a schema has under a subject; None where it isn't registered there."""
        body = {"schema": schema, "schemaType": "AVRO"}
        status, said = self._ask("POST", f"subjects/{_quoted(subject)}", body)
        if status == 404:
            return None
        self._check(status, said, f"about {subject}")
        return self._id(said), str(said.get("schema", ""))

    def register(self, subject: str, schema: str) -> int:
        """The id of a schema that is under a subject from now on. RegistryRefused."""
        body = {"schema": schema, "schemaType": "AVRO"}
        status, said = self._ask("POST", f"subjects/{_quoted(subject)}/versions", body)
        if status in (409, 422):
            raise RegistryRefused(_said(said))
        self._check(status, said, f"to register under {subject}")
        return self._id(said)

    def refusal(self, subject: str, schema: str) -> str:
        """Why it wouldn't take a schema under a subject, by its compatibility; empty: it would."""
        body = {"schema": schema, "schemaType": "AVRO"}
        path = f"compatibility/subjects/{_quoted(subject)}/versions/latest?verbose=true"
        status, said = self._ask("POST", path, body)
        if status == 404:
            return ""  # the first of its subject
        if status in (409, 422):
            return _said(said)
        self._check(status, said, f"whether {subject} takes a schema")
        if said.get("is_compatible") is True:
            return ""
        why = said.get("messages")
        return _short("; ".join(map(str, why))) if isinstance(why, list) and why else "incompatible"

    def schema(self, number: int) -> str | None:
        """The Avro schema of an id, as JSON text; None where there is none."""
        status, said = self._ask("GET", f"schemas/ids/{number}")
        if status == 404:
            return None
        self._check(status, said, f"for the id {number}")
        kind, text = said.get("schemaType") or "AVRO", said.get("schema")
        if kind != "AVRO" or not isinstance(text, str) or said.get("references"):
            return json.dumps({"type": f"a schema of the type {kind}"})
        return text

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of one answer. RegistryAway, or RegistryError for no registry."""
        import httpx

        where, limit = self.access.url, self.access.timeout_s
        try:
            request = self._client.build_request(method, path, json=body)
            answer = self._client.send(request, stream=True)
            try:
                text = self._read(answer)
            finally:
                answer.close()
        except httpx.TimeoutException as error:
            raise RegistryAway(f"{URL}: {where} doesn't answer within {limit:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryAway(f"{URL}: {where} can't be reached: {error}") from error
        status = answer.status_code
        if status >= 500 or status == 429:
            raise RegistryAway(f"{URL}: {where} answers {status}: {_short(text)}")
        if status in (401, 403):
            raise RegistryError(
                f"{URL}: {where} lets us not in ({status}): see {USER} and {PASSWORD}"
            )
        try:
            said = json.loads(text)
        except ValueError:
            said = None
        fits = isinstance(said, dict) and status not in range(300, 400)
        if not fits or (status == 404 and said.get("error_code") not in NOT_THERE):
            raise RegistryError(
                f"{URL}: {where} isn't a schema registry's address: it answers {status} to "
                f"{method} {path} (Apicurio's ends in /apis/ccompat/v7)"
            )
        return status, said

    def _read(self, answer: "httpx.Response") -> str:
        """The body, in time and size: each part of it may come in time, and all of it never."""
        end, text = time.monotonic() + self.access.timeout_s, bytearray()
        for part in answer.iter_bytes():
            text += part
            if len(text) > BYTES_MAX:
                raise RegistryError(f"{URL}: {self.access.url} answers more than {BYTES_MAX} bytes")
            if time.monotonic() > end:
                limit = self.access.timeout_s
                raise RegistryAway(f"{URL}: {self.access.url} takes longer than {limit:g} s")
        return text.decode("utf-8", "replace")

    def _check(self, status: int, said: dict[str, Any], what: str) -> None:
        if status != 200:
            where = self.access.url
            raise RegistryError(f"{URL}: {where} was asked {what} and said {status}: {_said(said)}")

    def _id(self, said: dict[str, Any]) -> int:
        number = said.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or not 0 < number < 1 << 31:
            raise RegistryError(f"{URL}: {self.access.url} gives an id that is none: {number!r}")
        return number


def _believed(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # ssl's own errors too
        raise RegistryError(f"{CA}: {ca} can't be used: {error}") from error


def _quoted(subject: str) -> str:
    return quote(subject, safe="")


def _said(answer: dict[str, Any]) -> str:
    return _short(str(answer.get("message") or answer))


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= SHOWN else one[:SHOWN] + "…"
