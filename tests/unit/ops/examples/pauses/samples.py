"""Observations and settings to try pauses with (the contract suite finds them here)."""

from tests.unit.agents.predictors.samples import records

__all__ = ["records", "settings"]


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("silence_s", "1"), ("silence_s", "60"), ("forget_after_s", "3600")]
