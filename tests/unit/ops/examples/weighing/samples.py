"""Observations and settings to try weighing with (the contract suite finds them here)."""

from tests.unit.agents.predictors.samples import records

__all__ = ["records", "settings"]


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("takes_us", "0"), ("takes_us", "1"), ("forget_after_s", "3600")]
