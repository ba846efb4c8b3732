"""A policy as it travels in band: its Rego modules and what an error counts as, in one text.

The text is the value of the integrator's setting `policy`; `digest` names it wherever it acts.
"""

import hashlib
import json
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # kernels are compiled anew when what their modules import has changed
    from agents.engine.processor import UnderWay
    from agents.policy.policies import Embedded

SETTING, OWNER = "policy", "integrator"  # whose setting it is
KIB = 1 << 10
BYTES_MAX = 64 * KIB  # of the text
MODULES_MAX = 100
NAME_MAX = 200  # characters of a module's name
SHOWN = 40  # of a refused one
LONE = "policy.rego"  # the name of Rego that comes without one


@dataclass(frozen=True, slots=True)
class Bundle:
    """Modules by name. `fail_open`: an error of the policy counts as allow, not as deny."""

    modules: Mapping[str, str]
    fail_open: bool = False

    @property
    def text(self) -> str:
        """The one form of it, as JSON."""
        whole = {"modules": dict(self.modules), "fail_open": self.fail_open}
        return json.dumps(whole, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """16 hex digits."""
        return digest(self.text)


def digest(text: str) -> str:
    """Names the text of a bundle; empty for none."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def read(text: str) -> Bundle:
    """A bundle of its text, or of plain Rego. ValueError says what is wrong with its form."""
    if len(text.encode("utf-8", "replace")) > BYTES_MAX:
        raise ValueError(f"a policy has {BYTES_MAX // KIB} KiB at most")
    if not text.lstrip().startswith("{"):
        return _checked({LONE: text}, False)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    modules = found.get("modules") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(modules, dict):
        raise ValueError('a policy is Rego, or JSON: {"modules": {NAME: REGO}, "fail_open": false}')
    if unknown := sorted(found.keys() - {"modules", "fail_open"}):
        raise ValueError(f"a policy has no {unknown[0][:SHOWN]!r}")
    fail_open = found.get("fail_open", False)
    if not isinstance(fail_open, bool):
        raise ValueError("a policy's fail_open is true or false")
    return _checked(modules, fail_open)


def _checked(modules: Mapping[str, object], fail_open: bool) -> Bundle:
    if not 0 < len(modules) <= MODULES_MAX:
        raise ValueError(f"a policy has 1 to {MODULES_MAX} modules")
    texts = {}
    for name, text in modules.items():
        if not 0 < len(name) <= NAME_MAX or not name.isprintable():
            raise ValueError(f"a module's name is 1 to {NAME_MAX} printable characters")
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise ValueError(f"{name}: a module is a text of Rego, without zero bytes")
        if any("\ud800" <= char <= "\udfff" for char in name + text):
            raise ValueError(f"{name}: isn't text: it has lone surrogates")
        texts[name] = text
    return Bundle(texts, fail_open)


class Bundles:
    """The policies that came in band, compiled once in a process, while any partition has them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: weakref.WeakValueDictionary[str, Embedded] = weakref.WeakValueDictionary()

    def of(self, text: str) -> "Embedded":
        """The policy of a bundle's text. ValueError for one that can't be one.

        It isn't tried out: control has done that, and a query that ends the process isn't caught.
        """
        from agents.policy import rego  # regopy: where there is a policy
        from agents.policy.policies import Embedded

        name = digest(text)
        with self._lock:
            found = self._made.get(name)
            if found is None:
                bundle = read(text)
                try:
                    found = Embedded(bundle.modules, bundle.fail_open, name)
                except rego.PolicyError as error:
                    raise ValueError(str(error)) from None
                self._made[name] = found
        return found

    def __bool__(self) -> bool:
        return bool(self._made)

    def under_way(self) -> "list[UnderWay]":
        """What they are deciding now, in any thread."""
        return [one for policy in list(self._made.values()) for one in policy.under_way()]


BUNDLES = Bundles()  # of this process
