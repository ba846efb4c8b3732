"""Which policy may veto whose leaders, where policies come in band.

A tenant's own counts before that of '*', this before the deployment's. Who has none at all isn't
asked about. They stand in the row of '*' of the partition's state: a tenant's own row is written
with each of its records, and is forgotten when it falls silent; what may veto isn't.
"""

from collections.abc import Mapping

from agents.engine.processor import Policy
from agents.kit.setting import EVERYONE
from agents.policy.bundle import BUNDLES, KIB, digest

BYTES_MAX = 512 * KIB  # of the different policies of a partition: they are one row
TENANTS_MAX = 1000  # that have one of their own in a partition


class Policies:
    """Those of one partition."""

    def __init__(self, deployment: Policy | None = None) -> None:
        self._deployment = deployment
        self.digests: dict[str, str] = {}  # tenant, or '*' -> digest of what came in band
        self.texts: dict[str, str] = {}  # digest -> text
        self._made: dict[str, Policy] = {}  # digest -> compiled

    @property
    def default(self) -> Policy | None:
        """Of whoever has none of its own."""
        return self._made[self.digests[EVERYONE]] if EVERYONE in self.digests else self._deployment

    def of(self, tenant: str) -> Policy | None:
        """Whose word counts for a tenant; None: nobody's."""
        return self._made[self.digests[tenant]] if tenant in self.digests else self.default

    def tenants(self) -> list[str]:
        """Those that have one of their own."""
        return [tenant for tenant in self.digests if tenant != EVERYONE]

    def change(self, tenant: str, text: str) -> None:
        """Give a tenant, or '*', a policy, or (an empty text) take it back. ValueError for what
        can't be one, or would be too much; then all is as it was.
        """
        digests = {one: name for one, name in self.digests.items() if one != tenant}
        texts = dict(self.texts)
        if text:
            digests[tenant] = digest(text)
            texts[digest(text)] = text
        self._become(digests, {name: texts[name] for name in set(digests.values())})

    def take(self, digests: Mapping[str, str], texts: Mapping[str, str]) -> None:
        """Take what a state row has, instead of all there was. ValueError for what can't be."""
        if set(digests.values()) != set(texts) or any(digest(t) != n for n, t in texts.items()):
            raise ValueError("its policies contradict each other")
        self._become(dict(digests), dict(texts))

    def _become(self, digests: dict[str, str], texts: dict[str, str]) -> None:
        if len(digests) > TENANTS_MAX + 1:
            raise ValueError(f"{TENANTS_MAX} tenants of this partition have policies of their own")
        if sum(len(text.encode()) for text in texts.values()) > BYTES_MAX:
            raise ValueError(f"the policies of this partition have {BYTES_MAX // KIB} KiB at most")
        self._made = {
            name: self._made.get(name) or BUNDLES.of(text) for name, text in texts.items()
        }
        self.digests, self.texts = dict(sorted(digests.items())), dict(sorted(texts.items()))
