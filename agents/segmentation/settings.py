"""The settings of segmentation: typed, in range, and as rows of numbers for the kernels.

A value is set for one domain of a tenant (`NAME@DOMAIN`), for a tenant, for one domain of everybody
('*', `NAME@DOMAIN`), for everybody, or for the deployment: the first of these counts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EVERYONE = "*"  # the tenant whose settings are the partition's defaults
AT = "@"  # between a setting's name and the domain that it is for

SWITCH = ("off", "on")
OFF, GLR, BOCPD = range(3)
YEAR_MS = 366 * 86_400_000.0


@dataclass(frozen=True, slots=True)
class Setting:
    """A number within [low, high], or a choice, kept as its index; `whole`: no fractions."""

    name: str
    default: str
    low: float
    high: float
    help: str
    choices: tuple[str, ...] = ()
    whole: bool = False

    def parse(self, text: str) -> float:
        """The number that stands for a text; raises ValueError saying what is allowed."""
        if self.choices:
            if text not in self.choices:
                raise ValueError(
                    f"{self.name} is one of {', '.join(self.choices)}, not {text[:40]!r}"
                )
            return float(self.choices.index(text))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        return self.checked(value, text)

    def checked(self, value: float, text: str = "") -> float:
        """The number itself if it may be a value; raises ValueError saying what is allowed."""
        high = len(self.choices) - 1 if self.choices else self.high
        fits = self.low <= value <= high
        if not fits or ((self.whole or self.choices) and value != int(value)):
            kind = "whole number" if self.whole else "number"
            raise ValueError(
                f"{self.name} is a {kind} from {self.low:g} to {high:g}, "
                f"not {(text or str(value))[:40]!r}"
            )
        return value


ALL = (
    Setting("leader", "on", 0, 1, "a boundary of the tenant's segment when the leader changes: "
            "on or off", SWITCH),
    Setting("threshold", "off", 0, 1, "a boundary when a domain's error moves by `gradient` from "
            "one frame to the next: on or off", SWITCH),
    Setting("gradient", "0.2", 0, 1e300, "how far an error moves at least for `threshold`"),
    Setting("cpd", "glr", 0, 2, "a boundary where a domain's errors change their law: off, glr "
            "or bocpd", ("off", "glr", "bocpd")),
    Setting("hmm", "off", 0, 1, "a boundary when a domain turns volatile or stable again: on or "
            "off", SWITCH),
    Setting("min_gap_ms", "0", 0, YEAR_MS, "event time between boundaries of a segment, at least"),
    Setting("max_dwell_ms", "0", 0, YEAR_MS, "event time that a domain's segment lasts at most; "
            "0: any"),
    Setting("warmup", "0", 0, 1e9, "frames of a domain before its first boundary", (), True),
    Setting("glr_bar", "2.3", 0, 1e6, "glr: evidence asked for beyond the logarithm of the "
            "segment's length; higher: fewer boundaries"),
    Setting("glr_floor", "1.4", 1e-6, 1e6, "glr: changes that are small beside so many times the "
            "median step don't count"),
    Setting("glr_habituation", "0.2", 0, 1e6, "glr: part by which each change declared raises the "
            "evidence asked for"),
    Setting("glr_half_life", "1000", 1, 1e12, "glr: frames after which a declared change counts "
            "half"),
    Setting("glr_persistence", "4", 1, 50, "glr: frames in a row that must show the evidence", (),
            True),
    Setting("bocpd_hazard", "250", 2, 1e9, "bocpd: frames that a segment lasts on average"),
    Setting("hmm_stay", "0.99999", 0.5, 0.9999999, "hmm: probability that a state lasts from one "
            "frame to the next"),
    Setting("hmm_up", "0.6", 0.5, 1, "hmm: probability of VOLATILE above which it is on"),
    Setting("hmm_down", "0.4", 0, 0.5, "hmm: probability of VOLATILE below which it is off"),
    Setting("domains_max", "256", 1, 1e6, "domains that a tenant may have at once; frames of "
            "others are dead letters", (), True),
    Setting("forget_after_s", "2592000", 1, 315_360_000, "silence after which a domain is "
            "forgotten"),
)  # fmt: skip
BY_NAME = {setting.name: k for k, setting in enumerate(ALL)}
(
    LEADER, THRESHOLD, GRADIENT, CPD, HMM, MIN_GAP, MAX_DWELL, WARMUP, BAR, FLOOR, HABITUATION,
    HALF_LIFE, PERSISTENCE, HAZARD, STAY, UP, DOWN, DOMAINS_MAX, FORGET_AFTER,
) = range(len(ALL))  # fmt: skip

SETTINGS = {setting.name: setting.help for setting in ALL}
DEFAULTS = {setting.name: setting.default for setting in ALL}
CHOICES = {setting.name: setting.choices for setting in ALL if setting.choices}
OF_TENANT = ("leader", "domains_max")  # can't differ between a tenant's domains


def split(name: str) -> tuple[str, str]:
    """(setting, domain) of `NAME` or `NAME@DOMAIN`; the domain is '' without one.

    Raises ValueError for a setting that isn't there, or can't be set for a domain.
    """
    setting, at, domain = name.partition(AT)
    if setting not in BY_NAME:
        raise ValueError(f"no setting {setting[:40]!r}; there are {', '.join(BY_NAME)}")
    if at and not domain:
        raise ValueError(f"{setting}@ lacks the domain: {setting}@state, for instance")
    if domain and setting in OF_TENANT:
        raise ValueError(f"{setting} is the tenant's: it can't be set for a domain")
    return setting, domain


def parse(name: str, text: str) -> float:
    """The number that stands for a value of `NAME[@DOMAIN]`. Raises ValueError."""
    setting, _ = split(name)
    return ALL[BY_NAME[setting]].parse(text)


def checked(name: str, value: float) -> float:
    """A number as `parse` gives it, or ValueError: what a state row may hold."""
    setting, _ = split(name)
    return ALL[BY_NAME[setting]].checked(value)


def row_of(values: Mapping[str, str]) -> NDArray[np.float64]:
    """A row of numbers: these values, and the defaults of the others. Raises ValueError."""
    for name in values:
        if AT in name:
            raise ValueError(f"{name[:40]!r}: only a tenant's setting can be for a domain")
        split(name)
    return np.array([s.parse(values.get(s.name, s.default)) for s in ALL])
