"""Files as programs of many countries write them are read as they were meant, or refused by name.

Never is a number read as another, a row taken for names or names for a row, without a word.
"""

import csv
import io
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

from agents.tools.csvfile import CsvFile
from agents.tools.csvform import Form, Told
from agents.tools.numbers import NoNumberError
from agents.tools.source import Source, TableError
from agents.tools.times import micros

FILES = 1_500
START = datetime(2024, 1, 5)  # noqa: DTZ001
TIMES = {
    "none": None,
    "index": lambda k, _: str(k),
    "epoch": lambda k, _: str(1_700_000_000 + 60 * k),
    "iso": lambda _, when: when.isoformat(),
    "german": lambda _, when: when.strftime("%d.%m.%Y %H:%M"),
    "british": lambda _, when: when.strftime("%d/%m/%Y %H:%M"),
    "american": lambda _, when: when.strftime("%m/%d/%Y %I:%M %p"),
}


class Written(NamedTuple):
    """A file, and what it means."""

    text: str
    names: list[str]
    header: bool
    times: list[datetime] | None
    values: list[list[float]]


def written(random: Random) -> Written:
    """A file of one of many styles."""
    kind, decimal, delimiter = (
        random.choice(list(TIMES)),
        random.choice(".,"),
        random.choice(";\t|,"),
    )
    header, trailing = random.random() < 0.5, random.random() < 0.1
    rows, columns = random.choice([1, 2, 3, 5, 10, 40, 400]), random.choice([1, 1, 2, 3])
    digits = [random.choice([0, 1, 2, 3]) for _ in range(columns)]
    base = [
        (random.choice([0, 20, 1000, -5]), random.choice([0.1, 3, 500])) for _ in range(columns)
    ]
    values = [
        [round(random.gauss(*base[c]), digits[c]) for c in range(columns)] for _ in range(rows)
    ]
    moments = [START + timedelta(hours=k) for k in range(rows)]
    stamp = TIMES[kind]
    table = []
    for k, row in enumerate(values):
        cells = [f"{x:.{digits[c]}f}".replace(".", decimal) for c, x in enumerate(row)]
        table.append(cells if stamp is None else [stamp(k, moments[k]), *cells])
    names = [*(["time"] if stamp else []), *(f"v{c}" for c in range(columns))]
    end = [""] if trailing and header else []
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator=random.choice(["\n", "\r\n"]))
    writer.writerows([*([names] if header else []), *table] if not end else [
        [*row, *end] for row in ([names] if header else []) + table
    ])  # fmt: skip
    text = out.getvalue()
    if names == ["v0"] and not trailing:
        text = text.replace('"', "")  # nobody puts numbers in a single column into quotes
    dated = moments if kind in ("iso", "german", "british", "american") else None
    return Written(text, names, header, dated, values)


def verdict(one: Written) -> str:
    """`read`, or who refused it; AssertionError where it was read as something else."""
    try:
        file = CsvFile(Source(io.BytesIO(one.text.encode()), seekable=True), Told())
    except TableError as error:
        assert "say --" in str(error) or "--header" in str(error), one.text
        return "form"
    assert (len(file.columns), file.form.header) == (len(one.names), one.header), one.text
    first = one.names[0] == "time"
    for k, row in enumerate(file):
        try:
            assert [file.numbers.read(cell) for cell in row.cells[first:]] == one.values[k], (
                one.text
            )
            if one.times is not None:
                since = (one.times[k] - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001
                assert micros(row.cells[0], "s", file.dates) == since, one.text
        except NoNumberError as error:
            assert "--decimal says" in str(error)
            return "number"
        except ValueError as error:
            assert "say --day-first or --month-first" in str(error), one.text
            return "date"
    assert k + 1 == len(one.values), one.text
    return "read"


def test_no_file_is_read_as_another() -> None:
    counts = Counter(verdict(written(Random(seed))) for seed in range(FILES))
    assert set(counts) == {"read", "form", "number", "date"}
    # Not many are refused: those of a few lines, or of a day, that nobody could tell.
    assert counts["read"] > 0.7 * FILES
    assert counts["form"] < 0.03 * FILES


def form_of(text: str, seekable: bool = True) -> Form | None:
    try:
        return CsvFile(Source(io.BytesIO(text.encode()), seekable), Told()).form
    except TableError:
        return None


def test_a_file_has_its_form_from_its_first_rows_on_and_a_pipe_has_the_same() -> None:
    """So an import that is taken up, or comes as it comes, reads as a whole file is read."""
    known = 0
    for seed in range(FILES // 5):
        text = written(Random(seed)).text
        lines = text.splitlines(keepends=True)
        whole = form_of(text)
        early = [form_of("".join(lines[:k])) for k in (1, 2, 3, 5, 8) if k < len(lines)]
        for form in (*early, form_of(text, seekable=False)):
            if form is None:
                continue  # nothing was read: nothing contradicts
            assert whole is not None, text
            assert (form.delimiter, form.header) == (whole.delimiter, whole.header), text
            assert form.decimal in (None, whole.decimal), text
            assert form.day_first in (None, whole.day_first), text
            known += 1
    assert known > FILES // 2
