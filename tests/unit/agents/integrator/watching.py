"""Drift once more, plainly, from its text: one tenant, dicts and floats. The kernels' oracle."""

from typing import Any

DEFAULTS = {"drift": "on", "drift_entropy": 0.8, "drift_regret": 0.1, "drift_cooldown_s": 60.0}
MARGIN = {"entropy": 0.1, "regret": 0.05}


class Watched:
    def __init__(self, **settings: Any) -> None:
        self.of = DEFAULTS | settings
        self.frames = self.samples = self.calm = self.at = 0
        self.mean = dict.fromkeys(MARGIN, 0.0)
        self.usual = dict.fromkeys(MARGIN, 0.0)
        self.spread = dict.fromkeys(MARGIN, 0.0)

    def anew(self) -> None:
        self.samples = self.calm = 0
        self.mean = dict.fromkeys(MARGIN, 0.0)

    def level(self, what: str) -> float:
        more = max(MARGIN[what], 6 * self.spread[what])
        return max(self.of[f"drift_{what}"], self.usual[what] + more)

    def frame(self, t: int, **x: float) -> str | None:
        """The kind of an event, if this frame makes one."""
        if self.of["drift"] == "off":
            return None
        self.frames, self.samples = min(self.frames + 1, 1000), min(self.samples + 1, 100)
        for what in MARGIN:
            step = max(1 / self.samples, 2 / 101)
            self.mean[what] += (x[what] - self.mean[what]) * step
        high = [what for what in MARGIN if self.mean[what] > self.level(what)]
        if self.samples < 20 or self.frames < 100 or not high:
            self.learn(x)
            return None
        self.calm = min(self.calm, 0) - 1
        if self.calm == -1000:
            self.usual, self.calm = dict(self.mean), 0
            return None
        if abs(t - self.at) < self.of["drift_cooldown_s"] * 1e6:
            return None
        self.at = t
        return high[0]

    def learn(self, x: dict[str, float]) -> None:
        step = max(1 / self.frames, 2 / 1001)
        for what in MARGIN:
            self.usual[what] += (x[what] - self.usual[what]) * step
            if self.samples >= 20:
                off = abs(self.mean[what] - self.usual[what])
                self.spread[what] += (off - self.spread[what]) * step
        self.calm = min(100, max(self.calm, 0) + 1)
