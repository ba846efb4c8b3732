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
    """A cell isn't a number, or isn't sure to be one; `hint` (in brackets) may say more."""

    def __init__(self, cell: str, hint: str = "") -> None:
        self.hint = f" ({hint})" if hint else ""
        super().__init__(f"{shown(cell)} isn't a number{self.hint}")


class Numbers:
    """Reads the numbers of one file. The first sure mark is the file's, unless one was told."""

    def __init__(self, decimal: str | None = None) -> None:
        self.decimal = decimal

    def _plain(self, text: str) -> str:
        """The text as Python writes a number; `NoNumberError` says why it can't be one."""
        if COMMA in text:
            return self._with_comma(text)
        if POINT in text and self.decimal != POINT:
            if self.decimal == COMMA:
                raise NoNumberError(text, "it has a point, where commas are the decimal marks")
            if NUMBER.fullmatch(text):
                self.decimal = POINT
        return text

    def read(self, text: str) -> float:
        """A stripped text's number; `NoNumberError` says why it is none."""
        sure = self.decimal == POINT and COMMA not in text
        plain = text if sure else self._plain(text)
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
                raise NoNumberError(text, f"{fraction} or {plain}? --decimal says")
            self.decimal = COMMA
        if self.decimal == POINT:
            raise NoNumberError(text, "a decimal comma? --decimal ,")
        return text.replace(COMMA, POINT)
