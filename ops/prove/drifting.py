"""When a tenant's fusion has drifted, written again for the verifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

WINDOW = 100  # frames of the mean that is judged
USUAL = 1000  # frames that the baseline remembers
JUDGED = 20  # frames of the window at least
KNOWN = 100  # frames of the tenant at least
SPREADS = 6.0
MARGINS = {"entropy": 0.1, "regret": 0.05}
SHAPING = (
    "fusion", "alpha", "share", "temperature", "entropy_cap", "margin", "min_dwell_ms",
    "stale_after_ms",
)  # fmt: skip
NEAR = 1e-9  # a mean nearer to its level than this is a tie


@dataclass
class Watched:
    """One number of each frame: its mean over the window, and what is usual."""

    mean: float = 0.0
    usual: float = 0.0
    spread: float = 0.0


@dataclass
class Watch:
    """State of one tenant; `baseline` holds its own settings of calmer times."""

    figures: dict[str, Watched] = field(default_factory=lambda: {n: Watched() for n in MARGINS})
    samples: int = 0
    frames: int = 0
    calm: int = 0
    last: int = 0  # event time of the last event, microseconds
    baseline: dict[str, Any] = field(default_factory=dict)
    ties: int = 0

    def start_anew(self) -> None:
        """The tenant's own settings have changed: the window begins again."""
        self.samples = self.calm = 0
        for each in self.figures.values():
            each.mean = 0.0

    def frame(
        self, numbers: Mapping[str, float], ts: int, settings: Mapping[str, Any],
        own: Mapping[str, Any], claimed: str | None,
    ) -> tuple[str, float] | None:  # fmt: skip
        """Take a frame in; the kind of an event and its threshold. `claimed`: by the log."""
        self.frames = min(self.frames + 1, USUAL)
        self.samples = min(self.samples + 1, WINDOW)
        step = max(1.0 / self.samples, 2.0 / (WINDOW + 1.0))
        for name, each in self.figures.items():
            each.mean += (numbers[name] - each.mean) * step
        levels = {name: self._level(name, settings) for name in MARGINS}
        due = abs(ts - self.last) >= settings["drift_cooldown_s"] * 1e6
        kind = self._judge(levels, claimed, due=due)
        if kind is None:
            self._learn(numbers, own)
            return None
        self.calm = min(self.calm, 0) - 1
        if self.calm <= -USUAL:
            self._accept(own)
            return None
        if not due:
            return None
        self.last = ts
        return kind, levels[kind]

    def _level(self, name: str, settings: Mapping[str, Any]) -> float:
        each = self.figures[name]
        beyond = max(MARGINS[name], SPREADS * each.spread)
        return float(max(settings[f"drift_{name}"], each.usual + beyond))

    def _judge(self, levels: Mapping[str, float], claimed: str | None, *, due: bool) -> str | None:
        """What is too high; by the log where that is a tie and an event may come of it."""
        if self.samples < JUDGED or self.frames < KNOWN:
            return None
        above = {name: self.figures[name].mean - level for name, level in levels.items()}
        own = next((name for name in MARGINS if above[name] > 0.0), None)
        tied = min(map(abs, above.values())) <= NEAR
        if due and tied and claimed != own and above.get(claimed or "", 0.0) >= -NEAR:
            self.ties += 1
            return claimed
        return own

    def _learn(self, numbers: Mapping[str, float], own: Mapping[str, Any]) -> None:
        step = max(1.0 / self.frames, 2.0 / (USUAL + 1.0))
        for name, each in self.figures.items():
            each.usual += (numbers[name] - each.usual) * step
            if self.samples >= JUDGED:
                each.spread += (abs(each.mean - each.usual) - each.spread) * step
        if self.calm < WINDOW:
            self.calm = max(self.calm, 0) + 1
            if self.calm == WINDOW:
                self.baseline = dict(own)

    def _accept(self, own: Mapping[str, Any]) -> None:
        for each in self.figures.values():
            each.usual = each.mean
        self.calm = 0
        self.baseline = dict(own)

    def roll_back(self, own: dict[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Take back what shapes the fusion; what was and what is, as text, where they differ."""
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        for name in SHAPING:
            was, calmer = own.get(name), self.baseline.get(name)
            if was == calmer:
                continue
            before[name], after[name] = _text(was), _text(calmer)
            own.pop(name, None)
            if calmer is not None:
                own[name] = calmer
        if before:
            self.start_anew()
        return before, after


def _text(value: Any) -> str:
    """A setting's value as a control record would have it; empty for none."""
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else repr(float(value))
