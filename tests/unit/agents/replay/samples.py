"""Commands and settings to try replay with (the contract suite finds them here)."""

from typing import Any

import numpy as np

BLANK: dict[str, Any] = {
    "mode": "", "source": "", "target": "", "shadow": "", "tenants": [], "domains": [],
    "predicate": "", "since": "", "until": "", "partial": False, "dry_run": False, "apply": False,
    "reasons": [], "max_attempts": 0, "rate_limit": 0, "actor": "test", "settings": [],
    "status": "", "folded_to": "", "begin": "",
}  # fmt: skip
TYPES = ("start", "start", "start", "pause", "resume", "stop", "status", "jump")
RANGES = (("", ""), ("5", "90"), ("0:1,3:9", ""), ("2020-01-01T00:00:00Z", ""), ("9", "5"))


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Commands for a few jobs: good ones, doubled ones, and some that can't be."""
    found = []
    for _ in range(n):
        since, until = RANGES[int(rng.integers(len(RANGES)))]
        found.append(
            BLANK
            | {
                "id": f"job-{int(rng.integers(12))}",
                "type": TYPES[int(rng.integers(len(TYPES)))],
                "mode": "republish" if rng.random() < 0.9 else "rewind",
                "source": "cog.observations",
                "target": ("mine", "other")[int(rng.integers(2))],
                "since": since,
                "until": until,
            }
        )
    return found


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("forget_after_s", "3600"), ("forget_after_s", "86400")]
