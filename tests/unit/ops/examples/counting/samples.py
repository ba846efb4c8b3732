"""Observations and settings to try counting with (the contract suite finds them here)."""

from tests.unit.agents.predictors.samples import records

__all__ = ["records", "settings"]


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("every", "1"), ("every", "2"), ("forget_after_s", "3600")]
