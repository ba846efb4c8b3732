"""The policy that may veto a new leader: `soma.policy.integrator`, embedded or asked over HTTP.

Input: {"tenant", "candidate": {"leader", "weights"}}; weights have six decimals, so that no
decision hangs on the last bits of a sum. Result: `allow` (boolean), and if wanted `leader` and
`rationale`.
`allow: false` denies, whatever else is said; `allow: true` with another leader overrides.
All else is an "error", whose rationale says what is wrong with it.
"""

import json
import math
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.engine.processor import RATIONALE_BYTES_MAX, Decision, Policy, Question, UnderWay
from agents.policy import ENTRY, bundle
from agents.settings import Settings, SettingsError

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_MISSING = object()
_SHOWN = 40  # characters of a name that isn't one
_KINDS = {bool: "a boolean", str: "a string", int: "a number", float: "a number", list: "an array",
          dict: "an object", type(None): "null"}  # fmt: skip


def question(tenant: str, leader: str, weights: Mapping[str, float]) -> dict[str, Any]:
    """The input document. ValueError for a weight that is no number."""
    if odd := [name for name, weight in weights.items() if not math.isfinite(weight)]:
        raise ValueError(f"the weight of {odd[0]} is {weights[odd[0]]}")
    shares = {name: round(float(weight), 6) for name, weight in weights.items()}
    return {"tenant": tenant, "candidate": {"leader": leader, "weights": shares}}


def decision(result: object, leader: str) -> Decision:
    """What a result document says of a candidate. Nonsense is an "error"."""
    if not isinstance(result, dict):
        return error(f"{ENTRY} is {_kind(result)}, not an object")
    allow = result.get("allow", _MISSING)
    other, rationale = result.get("leader", leader), result.get("rationale", "")
    if not isinstance(allow, bool):
        return error(f"allow is {_kind(allow)}, not a boolean")
    if not isinstance(other, str):
        return error(f"leader is {_kind(other)}, not a string")
    if not _NAME.fullmatch(other):
        return error(f"leader {other[:_SHOWN]!r} can't be a domain's name")
    if not isinstance(rationale, str):
        return error(f"rationale is {_kind(rationale)}, not a string")
    if not allow:
        return Decision("deny", "", short(rationale))
    if other != leader:
        return Decision("override", other, short(rationale))
    return Decision("allow", "", short(rationale))


def error(text: str) -> Decision:
    """An answer that isn't one."""
    return Decision("error", "", short(f"policy: {text}"))


def short(text: str) -> str:
    """At most RATIONALE_BYTES_MAX bytes of UTF-8; lone surrogates become '?'."""
    data = text.encode("utf-8", "replace")
    return data[:RATIONALE_BYTES_MAX].decode("utf-8", "ignore")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "undefined")


class Embedded:
    """Rego in this process. A pure function of the question and the sources: `digest` names both
    them and the version of the interpreter."""

    remote = False

    def __init__(
        self, modules: Mapping[str, str], fail_open: bool = False, digest: str = ""
    ) -> None:
        """`digest`, where it has a name already. `rego.PolicyError` for modules that don't
        compile.
        """
        # A third of a second that only workers with a policy pay.
        from agents.policy import rego
        from agents.policy.apart import rego_version

        self._failure = rego.PolicyError
        self._undefined = rego.UNDEFINED
        self._rego = rego.Rego(modules)
        self._under_way: dict[int, UnderWay] = {}  # by thread
        self.fail_open = fail_open
        text = json.dumps([sorted(modules.items()), rego_version(), fail_open])
        self.digest = digest or bundle.digest(text)

    def decide(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        """Ask the modules; 65 µs of CPU time with three domains."""
        thread = threading.get_ident()
        self._under_way[thread] = UnderWay(tenant, leader, time.monotonic())
        try:
            result = self._rego.query(question(tenant, leader, weights))
        except (self._failure, ValueError) as problem:
            return error(str(problem))
        finally:
            del self._under_way[thread]
        return decision(_MISSING if result is self._undefined else result, leader)

    def under_way(self) -> list[UnderWay]:
        """What it is deciding now, in any thread."""
        return list(self._under_way.values())


class Remote:
    """An OPA server's policy: asked by the engine, answered in band.

    What a fold does depends on the answers in its partition and on `fail_open`, never on who gave
    them, so the digest doesn't name the server.
    """

    remote = True

    def __init__(self, client: Any, fail_open: bool = False) -> None:
        """`client` is a stores.opa.Opa."""
        self._client = client
        self.fail_open = fail_open
        self.digest = "remote-open" if fail_open else "remote"

    def decide(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        """TypeError: a fold can't wait for a server."""
        raise TypeError("a remote policy is asked by the engine")

    async def ask(self, asked: Question) -> Decision:
        """The server's answer; "error" for none in time, or nonsense. Never raises."""
        from stores.opa import NoAnswerError

        try:
            given = question(asked.tenant, asked.leader, asked.weights)
            answer = await self._client.ask(ENTRY, given)
        except (NoAnswerError, ValueError) as problem:
            return error(str(problem))
        return decision(answer.get("result", _MISSING), asked.leader)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def load_policy(folder: Path, fail_open: bool = False) -> Embedded:
    """The policy of a folder, tried out. SettingsError names file and line of what is wrong."""
    from agents.policy import rego

    try:
        modules = rego.sources(folder)
        try_out(modules)
        return Embedded(modules, fail_open)
    except (rego.PolicyError, TimeoutError) as problem:
        raise SettingsError(f"The policy in {folder} can't be used: {problem}") from problem


def try_out(modules: Mapping[str, str], within_s: float | None = None) -> None:
    """Returns if a worker may use these modules. `rego.PolicyError` and TimeoutError, as `probe`;
    and PolicyError for a sample that has no answer, or nonsense.
    """
    from agents.policy import rego

    for asked, result in rego.probe(modules, within_s or rego.PROBE_S_MAX):
        told = decision(
            _MISSING if result is rego.UNDEFINED else result, asked["candidate"]["leader"]
        )
        if told.outcome == "error":
            raise rego.PolicyError(
                f"{told.rationale} for the sample input {json.dumps(asked)}; "
                f"`package {rego.PACKAGE}` must define allow for every input"
            )


def policy_of(settings: Settings) -> Policy | None:
    """The deployment's policy, if it has one. SettingsError says why it can't be used."""
    if settings.opa_url:
        from stores.opa import Opa

        token = settings.opa_token.get_secret_value()
        return Remote(Opa(settings.opa_url, settings.opa_timeout_s, token), settings.opa_fail_open)
    if settings.policy_dir is not None:
        return load_policy(settings.policy_dir, settings.opa_fail_open)
    return None
