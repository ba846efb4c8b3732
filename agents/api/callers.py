"""Who calls, and for which tenant."""

import re
from dataclasses import dataclass

from agents.api.problems import Problem

TENANT = re.compile(r"[A-Za-z0-9._-]{1,128}")
ROLES = ("read", "write", "admin")
REFUSED = "The token doesn't cover this."


@dataclass(frozen=True, slots=True)
class Caller:
    """What a token says. `tenants` None: all of them."""

    subject: str
    tenants: frozenset[str] | None
    roles: frozenset[str]

    def covers(self, tenant: str) -> bool:
        """Whether the caller may act for this tenant."""
        return self.tenants is None or tenant in self.tenants

    def must_cover(self, tenant: str) -> str:
        """The tenant; `Problem` 403 in the same words for every tenant that isn't the caller's."""
        if not TENANT.fullmatch(tenant) or not self.covers(tenant):
            raise Problem(403, REFUSED)
        return tenant

    def must_have(self, role: str) -> None:
        """`Problem` 403 without the role."""
        if role not in self.roles:
            raise Problem(403, f"This needs the role {role!r}.")


ANYBODY = Caller("anybody", None, frozenset(ROLES))


def tenant_of(header: str | None, namespace: str = "") -> str:
    """The tenant rule: the header; else what is after the namespace's last `:`; else `default`."""
    return header or namespace.rpartition(":")[2] or "default"
