"""Tables: what was written is read back, and whatever isn't a table is named with its line."""

import csv
import io
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.csvform import Told
from agents.tools.source import ROW_BYTES_MAX, TableError
from agents.tools.table import Table, csv_table, json_table, number, strict

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\r"), max_size=8)
names = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=5, unique=True)


def csv_of(data: bytes, **how: Any) -> Table:
    return csv_table(io.BytesIO(data), Told(**how))


def cells(table: Table) -> list[list[object]]:
    return [list(row.cells) for row in table]


@given(names, st.data(), st.sampled_from([",", ";", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_what_the_csv_module_writes_is_read_back(
    columns: list[str], data: st.DataObject, mark: str, end: str
) -> None:
    width = len(columns)
    rows = data.draw(st.lists(st.lists(text, min_size=width, max_size=width), max_size=8))
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(rows)
    table = csv_of(b"\xef\xbb\xbf" + out.getvalue().encode(), header=True, delimiter=mark)
    assert table.columns == tuple(columns)
    # A lone cell of blanks is an empty line.
    wanted = [row for row in rows if width > 1 or not row[0].isspace()]
    assert cells(table) == wanted


@given(names, st.data())
def test_json_lines_are_read_back(columns: list[str], data: st.DataObject) -> None:
    value = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    rows = data.draw(
        st.lists(st.fixed_dictionaries(dict.fromkeys(columns, value)), min_size=1, max_size=8)
    )
    table = json_table(io.BytesIO("".join(json.dumps(row) + "\n\n" for row in rows).encode()))
    assert cells(table) == [[row[name] for name in rows[0]] for row in rows]
    assert table.blank == len(rows)


@given(st.binary(max_size=200) | st.text('12.,;"\n\r\tae-{}[]: ', max_size=80).map(str.encode))
def test_random_bytes_are_rows_or_an_error_with_a_line(data: bytes) -> None:
    for read in (csv_table, json_table):
        try:
            table = read(io.BytesIO(data))
            for row in table:
                assert len(row.cells) == len(table.columns)
                assert 1 <= row.line <= data.count(b"\n") + 1
        except TableError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b"", 0, "empty"),
        (b"\n \r\n\n", 0, "nothing but empty lines"),
        (b"t,a,b\n1,2,3\n1,2\n", 3, "2 cells instead of 3 \\(t, a, b\\)"),
        (b"t,a\n1,2\n1,2,3\n", 3, "3 cells instead of 2"),
        (b"1\n\x002\n", 2, "binary"),
        (b"1\n\xff\n", 2, "0xff.*UTF-8"),
        (b"1\r2\r3\r", 1, "carriage returns"),
        (b'1,"2"3\n', 0, "no row is whole: a quote"),
        (b"a,a\n1,2\n", 1, "two columns"),
        (b"\x1f\x8b\x08", 0, "zcat"),
        (b"PK\x03\x04", 0, "zip"),
        ("\ufeffa\n".encode("utf-16-le"), 0, "UTF-16"),
        (b"1\n" + b"7" * (ROW_BYTES_MAX + 2) + b"\n", 2, "longer than"),
        (b"20,64\n20,65\n", 0, "'20,6.' may be two columns.*--delimiter , or --decimal ,"),
        (
            b"time,2020\n1,2\n2,3\n",
            0,
            "first row \\(time, 2020\\) looks like the next.*--no-header",
        ),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said(data: bytes, line: int, says: str) -> None:
    with pytest.raises(TableError, match=says) as raised:
        cells(csv_of(data))
    assert raised.value.line == line
    assert str(raised.value).startswith(f"line {line}: ") == bool(line)


@pytest.mark.parametrize(
    ("data", "line", "says"),
    [
        (b'\n{}\n{"b": 1}\n', 2, "the first object is empty"),
        (b'{"a": 1}\n{"b": 1}\n', 2, "no 'a'"),
        (b'{"a": 1}\n{"a": 1, "b": 2}\n', 2, "'b' isn't in the first"),
        (b'{"a": 1}\n\n[1]\n', 3, "not a list"),
        (b'{"a": 1}\n{"a": 1\n', 2, "not JSON"),
        (b"[" * 100_000 + b"\n", 1, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", 1, "too many digits"),
        (b'{"a": 1}', 1, "isn't ended yet.*--final"),
        (b'{"a": 1, "a": 2}\n', 1, '"a": given twice'),
        (b'{"a": NaN}\n', 1, "NaN is no number in JSON"),
    ],
)
def test_what_is_wrong_with_json_lines_is_said(data: bytes, line: int, says: str) -> None:
    with pytest.raises(TableError, match=says) as raised:
        cells(json_table(io.BytesIO(data)))
    assert raised.value.line == line


def test_other_keys_are_no_concern_when_some_are_wanted() -> None:
    data = b'{"x": 0, "a": 1}\n{"a": 2, "y": 3}\n'
    assert cells(json_table(io.BytesIO(data), ["a"])) == [[1], [2]]
    with pytest.raises(TableError, match="no 'z'; there are x, a"):
        json_table(io.BytesIO(data), ["z"])


@pytest.mark.parametrize(
    ("data", "named", "columns"),
    [
        (b"1\n2\n", False, ("column1",)),
        (b"\n1.5,nan\n2,3\n", False, ("column1", "column2")),
        (b"2020-01-31T12:00:00Z,3\n", False, ("column1", "column2")),
        (b"2020-01,3\n", False, ("column1", "column2")),
        (b"time,value\n1,2\n", True, ("time", "value")),
        (b"Month;Price\n1;2\n", True, ("Month", "Price")),
        (b'"a, b"\t1\n', True, ("a, b", "1")),
    ],
)
def test_a_header_is_recognised(data: bytes, named: bool, columns: tuple[str, ...]) -> None:
    table = csv_of(data)
    assert (table.named, table.columns) == (named, columns)


def test_a_column_is_named_by_its_name_or_its_number() -> None:
    table = csv_of(b"t,7,b\n")
    assert [table.place(name) for name in ("t", "7", "3", "b")] == [0, 1, 2, 2]
    for wrong in ("x", "4", "0", "-1", ""):
        with pytest.raises(TableError, match=re.escape(f"{wrong!r}; there are t, 7, b")):
            table.place(wrong)


def test_rows_come_while_the_stream_goes_on() -> None:
    """Nothing after the row is read: standard input can be slow or endless."""
    given_out = []

    class Slow(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            given_out.append(len(given_out))
            return f"{len(given_out)}\n".encode()

    rows = iter(csv_table(Slow()))
    assert [next(rows).cells for _ in range(3)] == [["1"], ["2"], ["3"]]
    assert len(given_out) == 3


def test_a_source_counts_and_takes_a_line_back() -> None:
    source = strict(io.BytesIO("\n é\nrest\n".encode()))
    assert source.first() == " é\n"
    assert (next(source), source.line, source.place) == (" é\n", 2, 5)
    assert source.rest(10) == "rest\n"
    with pytest.raises(TableError, match="more than 3 bytes"):
        strict(io.BytesIO(b"a\nbcde")).rest(3)


@given(st.floats() | st.integers())
def test_numbers_are_read_back_and_what_is_not_finite_is_missing(value: float) -> None:
    try:
        wanted = float(value)
    except OverflowError:
        wanted = math.inf
    for cell in (value, f" {value!r} "):
        found = number(cell)
        assert found == wanted if math.isfinite(wanted) else math.isnan(found)


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "NA", "n/a", "null", "inf", "1e400", None])
def test_missing_values(cell: object) -> None:
    assert math.isnan(number(cell))


@pytest.mark.parametrize("cell", ["1_000", "x", "1,5", "٣", "0x1", "1 2", True, [1], {"a": 1}])
def test_what_is_no_number_is_said(cell: object) -> None:
    with pytest.raises(ValueError, match="isn't a number"):
        number(cell)
