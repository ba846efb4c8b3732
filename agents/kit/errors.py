"""What a law may raise to refuse a record, and a value that doesn't fit its field.

A law that raises anything else, or writes what can't be, is a `LawFailed` of the engine's.
"""


class Refuse(Exception):
    """Raised by a law: the record becomes a dead letter, and nothing that it changed counts.

    `reason` is one of those that the processor declares ("refused" always is); `detail` is for
    people, and travels in the dead letter's headers.
    """

    def __init__(self, detail: str, reason: str = "refused") -> None:
        super().__init__(detail)
        self.detail, self.reason = str(detail), reason


class Misfit(ValueError):
    """A value doesn't fit its field: the `index`-th of those written together."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.index = index
