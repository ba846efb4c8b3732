"""Compile what only the law over one series has, as in `soma segment`: no record comes to it."""

from agents.segmentation.series import Series


def warm() -> None:
    """Take a value that goes nowhere."""
    Series().push(0.0)
