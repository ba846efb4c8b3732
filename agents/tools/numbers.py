"""Numbers as files have them: with a decimal point or a decimal comma, and no other marks.

`20,64` is 20.64 only where commas are the decimal marks, and `1,234` may be 1.234 or 1234: one
file has one mark, and what isn't sure is refused by name rather than read as something else.
"""

import re

from agents.tools.times import shown

POINT, COMMA = ".", ","
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "-nan"})
# A number with at most one mark; what has more of them groups its thousands, or is no number.
NUMBER = re.compile(r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # 1,234: a fraction, or a thousand


class NoNumberError(ValueError):
    """A cell is no number; `why` is said of it: "isn't a number"."""

    def __init__(self, cell: str, why: str = "isn't a number") -> None:
        super().__init__(f"{shown(cell)} {why}")
        self.cell = cell
        self.why = why


class Numbers:
    """Reads the numbers of one file. The first sure mark is the file's, unless one was told."""

    def __init__(self, decimal: str | None = None) -> None:
        self.decimal = decimal

    def plain(self, text: str) -> str:
        """The text as Python writes a number; `NoNumberError` says why it can't be one."""
        if COMMA in text:
            return self._with_comma(text)
        if POINT in text and self.decimal != POINT:
            if self.decimal == COMMA:
                raise NoNumberError(text, "has a point, where commas are the decimal marks")
            if NUMBER.fullmatch(text):
                self.decimal = POINT
        return text

    def read(self, text: str) -> float:
        """A stripped text's number; `NoNumberError` says why it is none."""
        plain = self.plain(text)
        try:
            value = float(plain)
        except ValueError:
            raise NoNumberError(text) from None
        if "_" in text or not text.isascii():  # float() takes 1_000 and other scripts' digits
            raise NoNumberError(text)
        return value

    def _with_comma(self, text: str) -> str:
        if NUMBER.fullmatch(text) is None:
            raise NoNumberError(text)
        if self.decimal is None:
            if THOUSANDS.fullmatch(text):
                plain = text.replace(COMMA, "")
                fraction = text.replace(COMMA, POINT)
                raise NoNumberError(text, f"may be {fraction} or {plain}: say --decimal")
            self.decimal = COMMA
        if self.decimal == POINT:
            raise NoNumberError(text, "isn't a number (a decimal comma? --decimal ,)")
        return text.replace(COMMA, POINT)
