"""Which policy may veto a leader, and what comes of it: written again for the verifier.

No Rego is run here. The driver's policies have one rule each that says of one domain that it never
leads, or who leads instead of it; that is read out of the text.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ops.prove.overrides import EVERYBODY

NEVER = re.compile(r'allow := false if input\.candidate\.leader == "(\w+)"')
INSTEAD = re.compile(r'leader := "(\w+)" if input\.candidate\.leader == "(\w+)"')
WHY = re.compile(r'rationale := "([\w ]+)" if input\.candidate\.leader == "(\w+)"')
NOT_FRESH = "override names no fresh domain"
DIGITS = 16


def digest(text: str) -> str:
    """Names the text of a policy; empty for none."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS] if text else ""


def bundle(rego: str) -> str:
    """The one form of a policy that is plain Rego, as it goes in band."""
    whole = {"fail_open": False, "modules": {"policy.rego": rego}}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))


class Verdict(NamedTuple):
    """What a question comes to: who leads then ('' stands for nobody), and what the frame says."""

    leader: str
    veto: str = "none"
    rationale: str = ""
    denied: bool = False  # the candidate


@dataclass
class Denied:
    """The candidate of a tenant that was denied last."""

    name: str = ""
    at: int = 0  # event time, microseconds


@dataclass
class Policies:
    """Texts by tenant or '*'."""

    texts: dict[str, str] = field(default_factory=dict)

    def change(self, tenant: str, text: str) -> None:
        """Give a policy, or take it back."""
        self.texts.pop(tenant, None)
        if text:
            self.texts[tenant] = text

    def of(self, tenant: str) -> str:
        """The text that counts for a tenant."""
        return self.texts.get(tenant, self.texts.get(EVERYBODY, ""))

    def kept(self) -> tuple[dict[str, str], dict[str, str]]:
        """As the row of '*' holds them."""
        digests = {tenant: digest(text) for tenant, text in self.texts.items()}
        return digests, {digest(text): text for text in self.texts.values()}

    def asked(
        self, tenant: str, candidate: str, leader: str, fresh: Mapping[str, float]
    ) -> Verdict:
        """What the tenant's policy says of a candidate, where `leader` leads."""
        rego = json.loads(self.of(tenant))["modules"]["policy.rego"]
        whys = {name: text for text, name in WHY.findall(rego)}
        why = whys.get(candidate, "")
        if candidate in NEVER.findall(rego):
            return Verdict(leader, "deny", why, True)
        other = {name: one for one, name in INSTEAD.findall(rego)}.get(candidate, candidate)
        if other == candidate:
            return Verdict(candidate, "allow", why)
        if other not in fresh:
            return Verdict(leader, "error", NOT_FRESH, True)
        return Verdict(other, "override", why, True)
