"""One setting of a processor: what is said of it is said here, once.

From it follow the variable of the environment (`SOMA_<PROCESSOR>__<NAME>`, the deployment's value),
the check at a worker's start, `soma config`, the check of a control record, `soma settings` and the
reference page. A setting's name is its key in the processor's mapping of them.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

EVERYONE = "*"  # the tenant whose settings count for all that have none of their own
AT = "@"  # between a setting's name and the domain that it is for
OFF_ON = ("off", "on")
COGNITION = "cognition"  # the switch of processors that steer others
YEAR_MS = 366 * 86_400_000.0
UNITS = {  # of a name's end
    "_per_s": "a second", "_ms": "ms", "_s": "s", "_days": "days", "_bytes": "bytes",
    "_bytes_max": "bytes", "_mb": "MB", "_mib": "MiB",
}  # fmt: skip
SHOWN = 40  # characters of a refused text
TEXT_MAX = 1024  # characters of a text
FINITE = sys.float_info.max

Value = str | int | float
Scope = Literal["deployment", "tenant", "domain"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A number within [low, high], or a text, one of `choices` where there are any.

    The default's type is the setting's: int (whole numbers), float (never infinite) or str. A
    switch is a choice of OFF_ON. `above`: `low` itself is too low. `scope`: the least that can have
    a value of its own; "domain" is a tenant's domain, set as NAME@DOMAIN. `unit`: where the name's
    end doesn't say it (UNITS).
    """

    default: Value
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    above: bool = False
    unit: str = ""
    scope: Scope = "tenant"

    def __post_init__(self) -> None:
        """Raises TypeError or ValueError for a declaration that contradicts itself."""
        if isinstance(self.default, bool) or (self.choices and not isinstance(self.default, str)):
            raise TypeError(f"{self.default!r}: a switch is a choice of 'off' and 'on'")
        self.check(self.default)

    @property
    def values(self) -> str:
        """What it can be, in words."""
        if self.choices:
            return one_of(self.choices)
        if isinstance(self.default, str):
            return f"a text of at most {TEXT_MAX} characters"
        return number_in_words(isinstance(self.default, int), self.low, self.high, above=self.above)

    def line(self, name: str) -> str:
        """All of it in a line, for people."""
        return f"{self.help} ({self.values}{unit_of(name, self.unit)}; default {self.default})"

    def parse(self, text: str) -> Value:
        """The value of a text, as variables and control records have it.

        Raises ValueError in words that stand well behind a name and "is".
        """
        value: object = text
        for kind in () if isinstance(self.default, str) else (int, float):
            try:
                value = kind(text)
                break
            except ValueError:
                continue  # `check` refuses a text that is no number
        return self.check(value, text)

    def check(self, value: object, text: str = "") -> Value:
        """The value itself, in the setting's type; a whole one may come as a float. ValueError as
        from `parse`.
        """
        refused = ValueError(f"{self.values}, not {(text or str(value))[:SHOWN]!r}")
        if isinstance(self.default, str):
            if not isinstance(value, str) or len(value) > TEXT_MAX:
                raise refused
            if self.choices and value not in self.choices:
                raise refused
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise refused
        if not -FINITE <= value <= FINITE or self.below(value):
            raise refused
        if self.high is not None and value > self.high:
            raise refused
        if isinstance(self.default, float):
            return float(value)
        if value != int(value):
            raise refused
        return int(value)

    def below(self, value: float) -> bool:
        """Whether a number is too low."""
        return self.low is not None and (value < self.low or (self.above and value == self.low))

    def number(self, value: Value) -> float:
        """What stands for a value in columns and state rows; for a choice, its index."""
        return float(self.choices.index(value)) if isinstance(value, str) else float(value)

    def of_number(self, number: float) -> Value:
        """The value that a number stands for. Raises ValueError if it stands for none."""
        if not self.choices:
            return self.check(number)
        if number not in range(len(self.choices)):
            raise ValueError(f"{self.values}, not number {number}")
        return self.choices[int(number)]


def unit_of(name: str, unit: str = "") -> str:
    """A unit, to stand behind a number: what is said, or what the name ends in."""
    found = unit or next((word for end, word in UNITS.items() if name.lower().endswith(end)), "")
    return f" {found}" if found else ""


def one_of(choices: Iterable[str]) -> str:
    """Choices, in words."""
    return f"one of {', '.join(choices)}"


def number_in_words(
    whole: bool, low: float | None, high: float | None, *, above: bool = False
) -> str:
    """A number within limits, in words."""
    least = "above" if above else "from" if high is not None else "of at least"
    start = "" if low is None else f" {least} {low:.15g}"
    end = "" if high is None else f" {'to' if least == 'from' and start else 'up to'} {high:.15g}"
    return f"a {'whole ' if whole else ''}number{start}{end}"


def find(settings: Mapping[str, Setting], name: str) -> tuple[Setting, str, str]:
    """What NAME or NAME@DOMAIN means: the setting, its name, and the domain ('': the tenant).

    Raises ValueError for a setting that isn't there, or can't be set for a domain.
    """
    own, at, domain = name.partition(AT)
    if own not in settings:
        raise ValueError(f"no setting {own[:SHOWN]!r}; there are {', '.join(settings)}")
    setting = settings[own]
    if at and setting.scope != "domain":
        raise ValueError(f"{own} is the tenant's: it can't be set for a domain")
    if at and not domain:
        raise ValueError(f"{own}@ lacks the domain: {own}@state, for instance")
    return setting, own, domain


def of_tenant(settings: Mapping[str, Setting], name: str) -> tuple[Setting, str, str]:
    """As `find`; ValueError also for what is the deployment's, and can't be a tenant's."""
    setting, own, domain = find(settings, name)
    if setting.scope == "deployment":
        raise ValueError(f"{own} is the deployment's: no tenant can have it otherwise")
    return setting, own, domain


def parse(settings: Mapping[str, Setting], name: str, text: str) -> Value:
    """The value of a text for NAME or NAME@DOMAIN. ValueError says what is wrong, by name."""
    setting, own, _ = find(settings, name)
    try:
        return setting.parse(text)
    except ValueError as error:
        raise ValueError(f"{own} is {error}") from None
