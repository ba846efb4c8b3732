"""What can't be done with the past, in a line that names it."""


class HistoryError(Exception):
    """The log, the state or a snapshot isn't as it must be for what was asked."""


class Gone(HistoryError):
    """Records that are needed were deleted, and no snapshot stands for them."""


class TookTooLong(HistoryError):
    """A record wasn't found within the time that there is for it."""


class BadSnapshot(HistoryError):
    """A snapshot that can't be used: damaged, of a newer version, of another topic."""
