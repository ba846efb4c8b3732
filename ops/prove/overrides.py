"""Settings as the laws see them: the deployment's, everybody's ('*'), the tenant's own."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ops.prove.dozing import ACTIVE, Sleep
from ops.prove.law import RefusedError

EVERYBODY = "*"
KEPT_AS = "sleep"  # among the settings of a state row


class Word(str):
    """The value of a setting that is one of some words, and its number in state rows."""

    number = 0.0


def choice(*words: str) -> Callable[[str], Word]:
    """The meaning of a setting that is one of some words, numbered in this order."""

    def parse(text: str) -> Word:
        word = Word(text)
        word.number = float(words.index(text))  # ValueError for another word
        return word

    return parse


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Own values as a state row holds them."""
    return {
        name: value.number if isinstance(value, Word) else value for name, value in values.items()
    }


class Overrides:
    """Values of the settings by tenant; control records change them in band."""

    def __init__(
        self, kinds: Mapping[str, Callable[[str], Any]], by_domain: Collection[str] = ()
    ) -> None:
        """`kinds`: for each setting what its text means (ValueError for what it can't mean).

        `by_domain`: settings that may be set for one domain, by `NAME@DOMAIN`.
        """
        self.kinds = kinds
        self.by_domain = by_domain
        self.deployment: dict[str, Any] = {}
        self.own: dict[str, dict[str, Any]] = {}
        self.version: dict[str, int] = {}
        self.asleep: dict[str, Sleep] = {}

    def epoch(self, settings: Mapping[str, str]) -> None:
        """Take the deployment's values; names of other things are passed over."""
        self.deployment = {
            name: self.kinds[name](value) for name, value in settings.items() if name in self.kinds
        }

    def change(self, tenant: str, setting: str, value: str, version: int = 0) -> None:
        """One control record; an empty value takes the own value back. Without a version it has one
        more than all that the tenant (for '*': anybody) has seen.
        """
        name, at, domain = setting.partition("@")
        if name not in self.kinds or (at and not (domain and name in self.by_domain)):
            raise RefusedError(f"no setting {setting!r}")
        own = self.own.setdefault(tenant, {})
        if value == "":
            own.pop(setting, None)
        else:
            try:
                own[setting] = self.kinds[name](value)
            except ValueError as error:
                raise RefusedError(f"{setting} can't be {value!r}") from error
        self.move(tenant, version)

    def move(self, tenant: str, version: int) -> None:
        """A change has been made."""
        mine, everybody = self.version.get(tenant, 0), max(self.version.values(), default=0)
        past_control = everybody if tenant == EVERYBODY else self.seen(tenant)
        before = mine if version else past_control
        self.version[tenant] = max(before + 1, version)

    def seen(self, tenant: str) -> int:
        """The version of the last change that a tenant has seen."""
        return max(self.version.get(tenant, 0), self.version.get(EVERYBODY, 0))

    def of(self, tenant: str, domain: str = "") -> dict[str, Any]:
        """The values in force for a tenant, or for one of its domains."""
        values = dict(self.deployment)
        for who in (EVERYBODY, tenant):
            own = self.own.get(who, {})
            values |= {name: value for name, value in own.items() if "@" not in name}
            values |= {
                name.partition("@")[0]: value
                for name, value in own.items() if name.endswith(f"@{domain}")
            }  # fmt: skip
        return values

    def let_sleep(self, tenant: str, sleep: Sleep) -> bool:
        """Let a tenant sleep, or be awake; whether that is new."""
        before = self.asleep.pop(tenant, None)
        if sleep.state != ACTIVE:
            self.asleep[tenant] = sleep
        return before != self.asleep.get(tenant)

    def state(self, tenant: str) -> str:
        """How deep a tenant sleeps."""
        return self.asleep[tenant].state if tenant in self.asleep else ACTIVE

    def numbers(self, tenant: str) -> dict[str, float]:
        """A tenant's own values, and its sleep, as a state row holds them."""
        found = numbers(self.own.get(tenant, {}))
        if tenant in self.asleep:
            found[KEPT_AS] = float(self.asleep[tenant].number)
        return found
