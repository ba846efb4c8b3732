"""Settings as the laws see them: the deployment's, everybody's ('*'), the tenant's own."""

from collections.abc import Callable, Mapping
from typing import Any

from ops.prove.check import RefusedError

EVERYBODY = "*"


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


class Overrides:
    """Values of the settings by tenant; control records change them in band."""

    def __init__(self, kinds: Mapping[str, Callable[[str], Any]]) -> None:
        """`kinds`: for each setting what its text means (ValueError for what it can't mean)."""
        self.kinds = kinds
        self.deployment: dict[str, Any] = {}
        self.own: dict[str, dict[str, Any]] = {}
        self.version: dict[str, int] = {}

    def epoch(self, settings: Mapping[str, str]) -> None:
        """Take the deployment's values; names of other things are passed over."""
        self.deployment = {
            name: self.kinds[name](value) for name, value in settings.items() if name in self.kinds
        }

    def change(self, tenant: str, setting: str, value: str) -> None:
        """One control record; an empty value takes the own value back."""
        if setting not in self.kinds:
            raise RefusedError(f"no setting {setting!r}")
        own = self.own.setdefault(tenant, {})
        if value == "":
            own.pop(setting, None)
        else:
            try:
                own[setting] = self.kinds[setting](value)
            except ValueError as error:
                raise RefusedError(f"{setting} can't be {value!r}") from error
        self.version[tenant] = self.version.get(tenant, 0) + 1

    def of(self, tenant: str) -> dict[str, Any]:
        """The values in force for a tenant."""
        return self.deployment | self.own.get(EVERYBODY, {}) | self.own.get(tenant, {})

    def numbers(self, tenant: str) -> dict[str, float]:
        """A tenant's own values as a state row holds them."""
        return {
            name: value.number if isinstance(value, Word) else value
            for name, value in self.own.get(tenant, {}).items()
        }
