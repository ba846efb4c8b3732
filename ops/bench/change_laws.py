"""Change-point laws side by side: our own, and peers where they are installed.

Each takes a whole series and returns changes (index, at): the first point after the change, and the
point that showed it. Offline ones see the whole series first: their `at` is its last point.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.segmentation.series import Series
from agents.tools.detecting import settings_of

Floats = NDArray[np.float64]
Changes = list[tuple[int, int]]
ADWIN_DELTA = 0.002  # river's default
PENALTY = 3.0  # times log n: as in the modified BIC


@dataclass(frozen=True)
class Law:
    """One way to find changes."""

    name: str
    find: Callable[[Floats], Changes]
    online: bool = True
    needs: str = ""  # a module that must be installed

    @property
    def installed(self) -> bool:
        return not self.needs or find_spec(self.needs) is not None


def ours(mode: str, settings: Mapping[str, str] | None = None) -> Callable[[Floats], Changes]:
    """Our law in a mode (glr, bocpd, hmm), with its defaults or these settings on top."""
    chosen = settings_of([mode], settings or {})

    def find(values: Floats) -> Changes:
        series = Series(chosen)
        return [(one.index, one.at) for value in values for one in series.push(float(value))]

    return find


def nothing(values: Floats) -> Changes:
    return []


def adwin(values: Floats) -> Changes:
    """river's ADWIN (Bifet and Gavaldà 2007): the change lies where its window now begins."""
    law: Any = import_module("river.drift").ADWIN(delta=ADWIN_DELTA)
    found = []
    for at, value in enumerate(values):
        if math.isnan(value):
            continue
        law.update(float(value))
        if law.drift_detected:
            found.append((max(0, at + 1 - int(law.width)), at))
    return found


def binary_segmentation(values: Floats) -> Changes:
    """ruptures' binary segmentation: offline, changes of the mean of the standardised series."""
    ruptures: Any = import_module("ruptures")
    n = len(values)
    there = np.flatnonzero(~np.isnan(values))
    if len(there) < 4:
        return []
    filled = np.interp(np.arange(n), there, values[there])
    z = (filled - filled.mean()) / (filled.std() or 1.0)
    law = ruptures.Binseg(model="l2", min_size=2, jump=1).fit(z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ends = law.predict(pen=PENALTY * math.log(n))
    return [(int(end), n - 1) for end in ends[:-1]]


ZERO = Law("zero", nothing)
GLR, BOCPD, HMM = (Law(mode, ours(mode)) for mode in ("glr", "bocpd", "hmm"))
ADWIN_LAW = Law("ADWIN (river)", adwin, needs="river")
BINSEG = Law("binary segmentation (ruptures, offline)", binary_segmentation, False, "ruptures")
ON_DATA = (ZERO, GLR, BOCPD, BINSEG, ADWIN_LAW)
ON_STREAMS = (GLR, BOCPD, HMM, ADWIN_LAW, BINSEG)


def installed(laws: tuple[Law, ...]) -> tuple[list[Law], list[str]]:
    """(those that can run here, a note for each that can't)."""
    missing = [f"{law.name} is left out: {law.needs} isn't installed" for law in laws
               if not law.installed]  # fmt: skip
    return [law for law in laws if law.installed], missing
