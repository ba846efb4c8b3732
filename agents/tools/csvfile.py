"""A CSV file as it is written: looked at first, then read row by row."""

from collections.abc import Iterator

from agents.tools.csvform import Form, Told, form_of
from agents.tools.numbers import Numbers
from agents.tools.rows import csv_rows
from agents.tools.source import UNENDED, Row, Source, TableError
from agents.tools.times import Dates

LOST = "\N{REPLACEMENT CHARACTER}"  # stands for bytes that were no text
LOOK_FILE = 1024  # lines that are looked at, at most
LOOK_PIPE = 32  # and of what comes as it comes


class CsvFile:
    """The columns of a CSV source, and its rows; what is said of it comes before how it looks.

    Lines that begin with '#' are comments. Without a header the columns are column1, column2, …
    """

    columns: tuple[str, ...]
    named: bool  # the names are the file's own, or were told

    def __init__(self, source: Source, told: Told) -> None:
        """`TableError` if the file is empty, or has two readings."""
        self.source = source
        source.commented = True
        source.skip(told.skip_lines)
        self.form = _form(source, told)
        self.numbers = Numbers(self.form.decimal)
        self.dates = Dates(self.form.day_first)
        if self.form.sep:
            source.skip(source.line + 1)
        self._rows = csv_rows(source, self.form.delimiter)
        names = self.form.names
        self.named = bool(names) or self.form.header
        if self.form.header:
            # What is no text may stand in a cell that nobody uses; names are used, all of them.
            strict, source.strict = source.strict, source.strict or not names
            row = next(self._rows)
            source.strict = strict
            if row.error:
                raise TableError(row.error, row.line)
            names = names or _names(row.cells)
        elif not told.names and any(LOST in name for name in names):
            raise TableError(
                f"the comment that names the columns isn't {source.encoding.upper()} (--encoding "
                "says what it is), or was damaged before (--names names them)"
            )
        self.columns = names or tuple(f"column{k + 1}" for k in range(self.form.width))

    def __iter__(self) -> Iterator[Row[list[str]]]:
        """The rows, without empty cells behind the last column; bad ones with what is wrong."""
        width = len(self.columns)
        for row in self._rows:
            if len(row.cells) > width and not any(map(str.strip, row.cells[width:])):
                yield Row(row.line, row.cells[:width], row.error)
            else:
                yield row


def _form(source: Source, told: Told) -> Form:
    most = LOOK_FILE if source.seekable else LOOK_PIPE
    if "\r" in source.first().rstrip("\r\n"):
        raise TableError("line ends are bare carriage returns: convert them to newlines", 1)
    count = 2
    while True:
        lines = source.look(count)
        if not lines:
            raise TableError(UNENDED, source.line + 1)
        complete = len(lines) < count or count >= most
        if (form := form_of(lines, told, complete)) is not None:
            return form
        count = min(2 * count, most)


def _names(cells: list[str]) -> tuple[str, ...]:
    """The names of a header, without empty ones at the end."""
    names = [cell.strip() for cell in cells]
    while len(names) > 1 and not names[-1]:
        names.pop()
    return tuple(names)
