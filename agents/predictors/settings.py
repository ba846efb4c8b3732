"""The settings of the predictors: typed, in range, and as rows of numbers for the kernels."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

EVERYONE = "*"  # the tenant whose settings are the partition's defaults

# Columns of a row; words are numbered in the order of CHOICES.
(
    PREDICTOR, ALPHA, TIME, GRAPH, METHOD, FORGETTING, FORGET_AFTER, CALIBRATE, EVERY, NEXT
) = range(10)  # fmt: skip

SETTINGS: dict[str, str] = {
    "predictor": "heat, persistence or mahal",
    "alpha": "confidence = exp(-alpha * error); 0 to 1000",
    "diffusion_time": "how long heat spreads before it is compared; 0 to 10",
    "graph": "what heat spreads over: path, ring, star or none",
    "heat_method": "chebyshev (to 1e-10 always), or lanczos (faster on large stars)",
    "forgetting": "part that an observation moves level and scale by; 0 (ever less) to 0.999",
    "forget_after_s": "silence after which a domain is forgotten, in seconds; 1 to 10 years",
    "calibrate": "on or off: publish confidences as often right as they say",
    "calibrate_every": "confidences between two records of how true they were; 50 to 100000",
    "next_events": "on or off: publish the vector that is expected next",
}
NAMES = tuple(SETTINGS)

CHOICES: dict[str, tuple[str, ...]] = {
    "predictor": ("heat", "persistence", "mahal"),  # rule.HEAT, PERSISTENCE, MAHAL
    "graph": ("none", "path", "ring", "star"),  # diffusion.NONE, PATH, RING, STAR
    "heat_method": ("chebyshev", "lanczos"),  # fold.CHEBYSHEV, LANCZOS
    "calibrate": ("off", "on"),
    "next_events": ("off", "on"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "alpha": (0.0, 1000.0),
    "diffusion_time": (0.0, 10.0),
    "forgetting": (0.0, 0.999),
    "forget_after_s": (1.0, 315_360_000.0),
    "calibrate_every": (50.0, 100_000.0),
}
_WHOLE = ("calibrate_every",)
DEFAULTS = {
    "predictor": "heat",
    "alpha": "2.0",
    "diffusion_time": "0.5",
    "graph": "path",
    "heat_method": "chebyshev",
    "forgetting": "0.01",
    "forget_after_s": "2592000",
    "calibrate": "on",
    "calibrate_every": "200",
    "next_events": "on",
}


def known(setting: str) -> None:
    """Raises ValueError, naming those there are, if there is no such setting."""
    if setting not in SETTINGS:
        raise ValueError(f"no setting {setting[:40]!r}; there are {', '.join(NAMES)}")


def parse(setting: str, text: str) -> float:
    """The number that stands for a setting's value. Raises ValueError, saying what is allowed."""
    known(setting)
    words = CHOICES.get(setting)
    if words is not None:
        if text not in words:
            raise ValueError(f"{setting} is one of {', '.join(words)}, not {text[:40]!r}")
        return float(words.index(text))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return _checked(setting, value, text)


def checked(setting: str, value: float) -> float:
    """A number as `parse` gives it, or ValueError: what a state row may hold."""
    words = CHOICES.get(setting)
    if words is None and setting in SETTINGS:
        return _checked(setting, value, str(value))
    if words is None or value not in range(len(words)):
        raise ValueError(f"state row: {setting!r} can't be {value}")
    return value


def _checked(setting: str, value: float, text: str) -> float:
    low, high = _RANGES[setting]
    whole = setting in _WHOLE
    if not low <= value <= high or (whole and value != int(value)):
        kind = "whole number" if whole else "number"
        raise ValueError(f"{setting} is a {kind} from {low:g} to {high:g}, not {text[:40]!r}")
    return value


def row_of(defaults: Mapping[str, str]) -> NDArray[np.float64]:
    """The deployment's row: its own values where it gives them. Raises ValueError for a bad one."""
    return np.array([parse(name, defaults.get(name, DEFAULTS[name])) for name in NAMES])


class Book:
    """Who set what: a table with one row of values for each tenant that has values of its own.

    Row 0 is for all others. A row's number stays the tenant's as long as it has any.
    """

    def __init__(self, defaults: Mapping[str, str]) -> None:
        self._base = row_of(defaults)
        self._own: dict[str, dict[str, float]] = {}
        self._slot: dict[str, int] = {}
        self._free: list[int] = []
        self.table = self._base[None, :].copy()
        self.version = 1  # goes up with every change

    def slot(self, tenant: str) -> int:
        """The tenant's row in `table`."""
        return self._slot.get(tenant, 0)

    def own(self, tenant: str) -> dict[str, float]:
        """What the tenant set itself, in the order of SETTINGS."""
        mine = self._own.get(tenant, {})
        return {name: mine[name] for name in NAMES if name in mine}

    def tenants(self) -> list[str]:
        """Those that set something themselves."""
        return list(self._own)

    def change(self, tenant: str, setting: str, value: float | None) -> None:
        """Set one value, or (None) take it back."""
        mine = dict(self._own.get(tenant, {}))
        mine.pop(setting, None)
        if value is not None:
            mine[setting] = value
        self.replace(tenant, mine)

    def replace(self, tenant: str, values: Mapping[str, float]) -> None:
        """Make these the tenant's own values, instead of all it had."""
        self.version += 1
        if values:
            self._own[tenant] = dict(values)
        else:
            self._own.pop(tenant, None)
        if tenant == EVERYONE:
            self.table[0] = self._row(EVERYONE)
            for other, slot in self._slot.items():
                self.table[slot] = self._row(other)
        elif values:
            slot = self._take(tenant)  # may replace the table: so not inside the index below
            self.table[slot] = self._row(tenant)
        elif tenant in self._slot:
            self._free.append(self._slot.pop(tenant))

    def _take(self, tenant: str) -> int:
        if tenant not in self._slot:
            if not self._free:
                rows = self.table.shape[0]
                self.table = np.vstack([self.table, np.tile(self._base, (rows, 1))])
                self._free.extend(range(2 * rows - 1, rows - 1, -1))
            self._slot[tenant] = self._free.pop()
        return self._slot[tenant]

    def _row(self, tenant: str) -> NDArray[np.float64]:
        row = self._base.copy()
        for name, value in (self._own.get(EVERYONE, {}) | self._own.get(tenant, {})).items():
            row[NAMES.index(name)] = value
        return row
