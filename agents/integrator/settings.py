"""The integrator's settings: which there are, what values they take, and whose value counts.

A tenant's own value counts before the partition's (tenant '*'), that before the deployment's. Most
tenants have none of their own: they share row 0 of the table, so a tenant costs one int.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HEDGE, FIXED_SHARE, SOFTMAX = range(3)
FUSIONS = ("hedge", "fixed_share", "softmax")


@dataclass(frozen=True, slots=True)
class Setting:
    """A number (or a choice, kept as its index) within [low, high]; `low_open`: above low."""

    name: str
    default: str
    low: float
    high: float
    help: str
    low_open: bool = False
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> float:
        """The value of a text; raises ValueError saying what is wrong."""
        if self.choices:
            if text not in self.choices:
                raise ValueError(
                    f"{self.name}: one of {', '.join(self.choices)}, not {text[:40]!r}"
                )
            return float(self.choices.index(text))
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{self.name}: a number, not {text[:40]!r}") from None
        above = value > self.low if self.low_open else value >= self.low
        if not (math.isfinite(value) and above and value <= self.high):
            least = "above" if self.low_open else "at least"
            raise ValueError(
                f"{self.name}: {least} {self.low:g} and at most {self.high:g}, not {text[:40]!r}"
            )
        return value

    def text(self, value: float) -> str:
        """The text that `parse` reads as this value; empty for NaN."""
        if math.isnan(value):
            return ""
        return self.choices[int(value)] if self.choices else repr(float(value))


OFF_ON = ("off", "on")
YEAR_MS = 366 * 86_400_000.0

SETTINGS = (
    Setting("fusion", "fixed_share", 0, 2, "hedge, fixed_share or softmax", choices=FUSIONS),
    Setting("alpha", "2.0", 0, 1e6, "loss = 1 - exp(-alpha * error)"),
    Setting("share", "0.001", 0, 1, "part of the weight that fixed_share spreads evenly a round"),
    Setting("temperature", "1.0", 1e-6, 1e6, "weights are published raised to 1/temperature"),
    Setting("entropy_cap", "1.0", 0, 1, "most entropy of the weights, as a part of ln N"),
    Setting("margin", "0.05", 0, 1, "a challenger needs this much more weight than the leader"),
    Setting("min_dwell_ms", "50.0", 0, YEAR_MS, "event time that a leader leads at least"),
    Setting("stale_after_ms", "10000.0", 0, YEAR_MS, "event time without a record after which a "
            "domain takes no part", low_open=True),
    Setting("forget_after_s", "2592000", 0, 1e10, "silence after which a tenant (by log time) or a "
            "domain (by event time) is forgotten, settings and all", low_open=True),
    Setting("veto_retry_ms", "1000.0", 0, YEAR_MS, "event time before the policy is asked again "
            "about a leader that it denied"),
    Setting("drift", "on", 0, 1, "whether entropy and regret are watched: on or off",
            choices=OFF_ON),
    Setting("drift_entropy", "0.8", 0, 1, "mean entropy above which a tenant may drift"),
    Setting("drift_regret", "0.1", 0, 1, "mean regret a round above which a tenant may drift"),
    Setting("drift_cooldown_s", "60.0", 0, 1e10, "event time between two drift events"),
    Setting("auto_rollback", "off", 0, 1, "whether a drift takes the tenant's own settings back: "
            "on or off", choices=OFF_ON),
)  # fmt: skip
(
    FUSION, ALPHA, SHARE, TEMPERATURE, CAP, MARGIN, DWELL, STALE, FORGET,
    RETRY, DRIFT, DRIFT_ENTROPY, DRIFT_REGRET, COOLDOWN, ROLLBACK,
) = range(len(SETTINGS))  # fmt: skip
SHAPING = FORGET  # settings before this one shape the fusion: those a rollback takes back
BY_NAME = {setting.name: k for k, setting in enumerate(SETTINGS)}

# The names end to end, and where each begins: what kernels compare and point to.
NAMES = "".join(setting.name for setting in SETTINGS).encode()
ENDS = np.cumsum([len(setting.name) for setting in SETTINGS])
STARTS = np.concatenate((np.zeros(1, np.int64), ENDS[:-1]))

Floats = NDArray[np.float64]


def parse(setting: str, text: str) -> tuple[int, float]:
    """(index, value) of a setting, NaN for an empty text; ValueError says what is wrong."""
    k = BY_NAME.get(setting)
    if k is None:
        raise ValueError(f"no setting {setting[:40]!r}; there are {', '.join(BY_NAME)}")
    return k, SETTINGS[k].parse(text) if text else math.nan


class Table:
    """Own values (NaN: none) and what follows from them, two rows per tenant that ever set any.

    Row 0 is the partition's ('*') and that of every tenant without a row. A tenant's row is
    followed by its baseline's: the own values that a rollback would give back (see `drift`).
    """

    def __init__(self, defaults: Mapping[str, str]) -> None:
        values = {setting.name: setting.default for setting in SETTINGS} | dict(defaults)
        self.defaults = np.zeros(len(SETTINGS))
        for name, text in values.items():
            k, value = parse(name, text)
            self.defaults[k] = value
        self.rows = 1
        self.own = np.full((4, len(SETTINGS)), np.nan)
        self.effective = np.zeros_like(self.own)
        self.refresh()

    def refresh(self) -> None:
        """Recompute what counts, after own values have changed."""
        star = np.where(np.isnan(self.own[0]), self.defaults, self.own[0])
        self.effective[:] = np.where(np.isnan(self.own), star, self.own)

    def put(self, row: int, k: int, value: float) -> None:
        """Give a row a value of its own; NaN takes it back."""
        self.own[row, k] = value
        if row == 0:
            self.refresh()
        else:
            below = self.effective[0, k]
            self.effective[row, k] = below if math.isnan(value) else value

    def reserve(self, more: int) -> None:
        """Make room for so many more rows."""
        need = self.rows + more
        if need > self.own.shape[0]:
            own = np.full((max(need, 2 * self.own.shape[0]), len(SETTINGS)), np.nan)
            own[: self.rows] = self.own[: self.rows]
            self.own = own
            self.effective = np.zeros_like(own)
            self.refresh()

    def add(self) -> int:
        """A new row without own values, and its baseline's."""
        self.reserve(2)
        self.rows += 2
        return self.rows - 2

    def settle(self, row: int) -> None:
        """Make a tenant's values its baseline."""
        self.own[row + 1] = self.own[row]

    def keep(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Forget the tenants' rows that aren't among `rows`; returns old row -> new row.

        Row 0 stays, and so does the baseline's row of each that stays.
        """
        kept = np.union1d(np.union1d(rows, rows[rows > 0] + 1), [0])
        moved = np.zeros(self.rows, np.int64)
        moved[kept] = np.arange(kept.shape[0])
        self.own[: kept.shape[0]] = self.own[kept]
        self.own[kept.shape[0] :] = np.nan
        self.rows = int(kept.shape[0])
        self.refresh()
        return moved
