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

    def one_tenant(self, tenant: str | None) -> str | None:
        """The tenant to look for: None (all) for those who cover all. `Problem` 403, 422."""
        if tenant is not None:
            return self.must_cover(tenant)
        if self.tenants is None:
            return None
        if len(self.tenants) != 1:
            raise Problem(422, "Say which tenant: the token covers some, not all.")
        return next(iter(self.tenants))

    def must_have(self, role: str) -> None:
        """`Problem` 403 without the role."""
        if role not in self.roles:
            raise Problem(403, f"This needs the role {role!r}.")


ANYBODY = Caller("anybody", None, frozenset(ROLES))


def payer(caller: Caller, header: str | None) -> str:
    """In whose name a request takes room and time, before its body may say for which tenant.

    The tenant its header names, if the token covers it; else the token's only one; else the caller.
    """
    if header and TENANT.fullmatch(header) and caller.covers(header):
        return header
    if caller.tenants is not None and len(caller.tenants) == 1:
        return next(iter(caller.tenants))
    return asker(caller)


def asker(caller: Caller) -> str:
    """The caller himself among tenants: no tenant has such a name."""
    return f"\x1f{caller.subject}"


def tenant_of(header: str | None, namespace: str = "") -> str:
    """The tenant rule: the header; else what is after the namespace's last `:`; else `default`."""
    return header or namespace.rpartition(":")[2] or "default"
