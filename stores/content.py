"""Whether two JSON texts say the same, by the rules of PostgreSQL's jsonb."""

import json
from decimal import Decimal
from typing import Any


def content(text: str, but_for: str | None = None) -> Any:
    """What a JSON text says, to be compared: 1, 1.0 and 1e0 are equal, 1 and true are not.

    `but_for`: a field of the object that doesn't count. A text that is no JSON stands for itself.
    """
    try:
        value = json.loads(text, parse_int=_number, parse_float=_number)
    except (ArithmeticError, ValueError, RecursionError):
        return text.encode("utf-8", "surrogatepass")  # equal to no JSON text's string
    if but_for is not None and isinstance(value, dict):
        value.pop(but_for, None)
    return value


def _number(text: str) -> tuple[Decimal]:
    return (Decimal(text),)  # Python takes a bare 1 for True
