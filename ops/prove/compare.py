"""Comparing what was written with what should have been: ids and texts exactly, numbers nearly."""

import math
from collections.abc import Mapping, Sequence
from typing import Any


def near(expected: float, got: float, tolerance: float) -> bool:
    """Equal within a tolerance that is absolute below 1 and relative above; NaN equals NaN."""
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    if math.isinf(expected) or math.isinf(got):
        return expected == got
    return abs(expected - got) <= tolerance * max(1.0, abs(expected))


def differs(expected: Any, got: Any, tolerance: float) -> bool:
    """Whether two values (numbers, texts, maps or sequences of them) aren't the same."""
    if type(expected) is type(got) and expected == got:
        return False
    if isinstance(expected, bool) or isinstance(got, bool):
        return expected is not got
    if isinstance(expected, float) and isinstance(got, int | float):
        return not near(expected, float(got), tolerance)
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        return expected.keys() != got.keys() or any(
            differs(value, got[key], tolerance) for key, value in expected.items()
        )
    if isinstance(expected, Sequence) and not isinstance(expected, str | bytes):
        return len(expected) != len(got) or any(
            differs(a, b, tolerance) for a, b in zip(expected, got, strict=True)
        )
    return bool(expected != got)


def unequal_fields(
    expected: Mapping[str, Any], got: Mapping[str, Any], tolerance: Mapping[str, float]
) -> list[str]:
    """The fields of `expected` that `got` lacks or holds otherwise, as 'name: want … got …'.

    `tolerance` has one entry per field that needs its own; '' is the one for all others.
    """
    return [
        f"{name}: want {value!r} got {got.get(name)!r}"
        for name, value in expected.items()
        if differs(value, got.get(name), tolerance.get(name, tolerance.get("", 0.0)))
    ]
