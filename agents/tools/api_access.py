"""Where the HTTP API is and who asks it, for commands that are its clients."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from agents.tools.mapping import NAME
from agents.tools.output import plain

if TYPE_CHECKING:
    from agents.settings import ApiSettings

TTL_S = 60
ANSWER_S = 30.0  # for an answer
FAILED = 400  # statuses from here on
ROLES = ("read", "write")


class ApiAccess:
    """The HTTP API, for one tenant. ClickException: there is no such tenant."""

    def __init__(
        self, own: "ApiSettings", tenant: str, url: str | None, token_file: Path | None,
        subject: str, roles: Sequence[str] = ROLES,
    ) -> None:  # fmt: skip
        if not NAME.fullmatch(tenant):
            raise click.ClickException(f"{tenant[:40]!r} can't be a tenant")
        self.base = base_of(own, url)
        self.tenant = tenant
        self._own, self._token_file = own, token_file
        self._subject, self._roles = subject, list(roles)

    def headers(self) -> dict[str, str]:
        """Of a request that is made now: the file's token; or one made with the shared secret."""
        told = {"X-Soma-Tenant": self.tenant}
        if self._token_file is not None:
            return told | bearer(self._token_file.read_text("utf-8").strip())
        if not (self._own.jwt_secret.get_secret_value() or self._own.jwt_secret_file):
            return told
        from agents.api.tokens import made

        return told | bearer(made(self._own, [self.tenant], self._roles, TTL_S, self._subject))


def base_of(own: "ApiSettings", url: str | None) -> str:
    """The API's URL: the one that is given, or where the settings say."""
    return (url or f"http://{own.host}:{own.port}").rstrip("/")


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}


def segment(text: str) -> str:
    """A text as part of a path, whatever it is: `..` would be taken for a step up."""
    return quote(text, safe="").replace(".", "%2E")


def sentence(document: Mapping[str, Any]) -> str:
    """A problem document in a line."""
    wrong = [f"{one['at']} {one['detail']}" for one in document.get("errors") or ()]
    return plain("; ".join([str(document.get("detail", document.get("status", ""))), *wrong]))
