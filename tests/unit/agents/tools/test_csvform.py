"""How a CSV file is written is told by many lines, and what has two readings is refused.

Among the cases are files from public reports on sniffers that answered wrongly without a word.
"""

import csv
import io
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agents.tools.csvfile import CsvFile
from agents.tools.csvform import ALONE, Form, Told, form_of
from agents.tools.source import Source, TableError


def opened(text: str, **told: Any) -> CsvFile:
    return CsvFile(Source(io.BytesIO(text.encode()), seekable=True), Told(**told))


def form(text: str, **told: Any) -> Form:
    return opened(text, **told).form


@pytest.mark.parametrize(
    ("text", "delimiter", "decimal", "columns"),
    [
        # Germany, France and many more: the semicolon divides, the comma is in the numbers.
        ("0;20,64\n1;20,71\n", ";", ",", ["column1", "column2"]),
        ("time;load\n0;20,64\n1;20\n", ";", ",", ["time", "load"]),
        ("Q1 2020;20,64\nQ2 2020;20,7\n", ";", ",", ["column1", "column2"]),
        ("time;v\n1;1,234\n2;0,5\n", ";", ",", ["time", "v"]),
        ('"1,5","2,5"\n"3,5","1,25"\n', ",", ",", ["column1", "column2"]),
        ("value\n20,64\n20,71\n", ALONE, ",", ["value"]),
        ("20,64\n20,05\n", ALONE, ",", ["column1"]),
        ("03/31/2024 00:00,20.64\n03/31/2024 01:00,20.7\n", ",", ".", ["column1", "column2"]),
        ("2024-03-31 10:00:00,123;5\n2024-03-31 10:00:01,123;6\n", ";", None,
         ["column1", "column2"]),
        ("2024-01-28T01:00:00;-10,7\n2024-01-28T02:00:00;-9,4\n", ";", ",", ["column1", "column2"]),
        ("0,20\n1,21\n2,19\n3,7\n4,8\n5,1\n", ",", None, ["column1", "column2"]),
        ("1,2\n2,\n3,5\n", ",", None, ["column1", "column2"]),
        ("value\n20,64\nNA\n20\n", ALONE, ",", ["value"]),
        ("6,02e23\n6,05e23\n", ALONE, ",", ["column1"]),
        ("1700000000,5\n1700000007,6\n", ",", None, ["column1", "column2"]),
        ("a|b\n1|2\n", "|", None, ["a", "b"]),
        ("t\tv\n1\t2\n", "\t", None, ["t", "v"]),
        # Excel's first line; delimiters at the ends of rows, of the header, of both.
        ("sep=;\r\ntime;v\r\n1;2,5\r\n", ";", ",", ["time", "v"]),
        ("sep=\t\r\ntime\tv\r\n1\t2,5\r\n", "\t", ",", ["time", "v"]),
        ("sep=; \ntime;v\n1;2,5\n", ";", ",", ["time", "v"]),
        ("time,a,b,\n1,2,3,\n2,3,4,\n", ",", None, ["time", "a", "b"]),
        ("time,a\n1,2,\n2,3,\n", ",", None, ["time", "a"]),
        ("time,a,,\n1,2\n2,3\n", ",", None, ["time", "a"]),
        ("# made by X\ntime,v\n1,2.5\n2,3\n# end\n", ",", ".", ["time", "v"]),
        ("# made by X\n#time,v\n1,2.5\n2,3\n", ",", ".", ["time", "v"]),
        ('a,"b\nc",d\n1,2,3\n2,3,4\n', ",", None, ["a", "b\nc", "d"]),
        ('"a, b"\t1\n', "\t", None, ["a, b", "1"]),
        ("2024-01-01,INFO,5\n2024-01-02,WARNING,6\n", ",", None, ["column1", "column2", "column3"]),
        # pandas #28458: no letter divides; CPython #97611, #88843: nor does a blank.
        ("email\ntest@gmail.com\ntest2@yahoo.com\n", ALONE, None, ["email"]),
        ('"Private Company";"Point Rd"\n"a";"b c"\n', ";", None, ["Private Company", "Point Rd"]),
        # CPython #119123: a list in a cell.
        (
            "id;cost;sub\n1;62.25;['10']\n4;46.50;['112', '112']\n6;13.27;['23']\n",
            ";", ".", ["id", "cost", "sub"],
        ),
        # CleverCSV #35 and #52: the colon of times.
        (
            "bytearray(b'fake data'),20:53:06,2019-09-01T19:28:21\n"
            "bytearray(b'fake data'),19:33:15,2005-02-15T19:10:31\n",
            ",", None, ["column1", "column2", "column3"],
        ),
        (
            "item1,item2,2022-03-28 17:24:10,item4,2022-01-02 22:43:59,1\n"
            "item1,item2,2022-03-28 17:25:10,item4,2022-01-02 22:43:59,2\n",
            ",", None, [f"column{k}" for k in range(1, 7)],
        ),
        # CleverCSV #37: JSON in quotes.
        (
            '"{""fake"": ""json"", ""x"":1}",13:31:38,1.5\n'
            '"{""fake"": ""json"", ""x"":2}",22:13:29,2\n',
            ",", ".", ["column1", "column2", "column3"],
        ),
        # DuckDB #25827: rows before another look are rows all the same; #9343: the usual width.
        ("c0\nv0\na;b\n", ALONE, None, ["c0"]),
        ("one,two,three\n1,2,3,4\n1,2,3\n\n1,2,3\n1,2,3\n", ",", None, ["one", "two", "three"]),
        # csv.Sniffer.has_header (CPython #104380, PyPy #5244).
        ("filename,path\nc.txt,/tmp/c.txt\np.txt,/tmp/p.txt\n", ",", None, ["filename", "path"]),
    ],
)  # fmt: skip
def test_files_as_they_are_found(
    text: str, delimiter: str, decimal: str | None, columns: list[str]
) -> None:
    file = opened(text)
    assert (file.form.delimiter, file.form.decimal) == (delimiter, decimal)
    assert list(file.columns) == columns


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("20,64\n20,71\n21,33\n", "may be two columns, or one number with a decimal comma.*--dec"),
        ("0,21\n-0,21\n0,22\n", "may be two columns"),
        ("1,5\n2,5\n3,5\n4,5\n5,5\n6,5\n", "may be two columns"),
        ("1,0\n2,1\n3,2\n4,3\n5,4\n6,5\n", "may be two columns"),
        ("6,2e23\n7,5e23\n", "'6,2e23' may be two columns"),
        ("Report\n1700000000,5\n1700000001,6\n", "may be two columns"),
        ("# nothing\n\n", "nothing but comments"),
        ("1,5\n", "--delimiter , or --decimal ,"),
        ("month,2019,2020\nJan,5,6\nMar,7,8\n", "looks like the next.*--header.*--no-header"),
        ("time,2019\n1,5\n2,6\n", "looks like the next"),
        ("x,5\n1,6\n", "first row \\(x, 5\\) looks like the next \\(1, 6\\)"),
        # DuckDB #15576: a title, and then the table.
        ("Estrazione del 2025-01-06\nid;a;b\n1;2;3\n2;3;4\n", "has 1 cell and.*3: --skip-lines"),
        ("a\n1;2\n1;2;3\n1;2;3;4\n", "don't agree on a delimiter: say --delimiter"),
        # DuckDB #14117: a quote that isn't closed.
        ('"1,2\n3,4\n', "a quote .*isn't closed"),
    ],
)
def test_what_has_two_readings_is_refused(text: str, says: str) -> None:
    with pytest.raises(TableError, match=says):
        opened(text)


@pytest.mark.parametrize(
    ("text", "told", "rows", "columns"),
    [
        ("20,64\n20,71\n", {"decimal": ","}, [["20,64"], ["20,71"]], ["column1"]),
        (
            "20,64\n20,71\n",
            {"delimiter": ","},
            [["20", "64"], ["20", "71"]],
            ["column1", "column2"],
        ),
        ("20,64\n20,71\n", {"names": ("a", "b")}, [["20", "64"], ["20", "71"]], ["a", "b"]),
        ("t,2019\n1,5\n2,6\n", {"header": True}, [["1", "5"], ["2", "6"]], ["t", "2019"]),
        ("x,5\n1,6\n", {"header": False}, [["x", "5"], ["1", "6"]], ["column1", "column2"]),
        ("x\ny,z\nt,v\n1,2\n", {"skip_lines": 2}, [["1", "2"]], ["t", "v"]),
        ("a,b\n1,2\n", {"header": True, "names": ("t", "v")}, [["1", "2"]], ["t", "v"]),
        ("1  2\n3 4\n", {"delimiter": " "}, [["1", "2"], ["3", "4"]], ["column1", "column2"]),
        ("sep=,\n1;2\n3;4\n", {"delimiter": ";"}, [["1", "2"], ["3", "4"]], ["column1", "column2"]),
    ],
)
def test_what_is_told_comes_first(
    text: str, told: dict[str, Any], rows: list[list[str]], columns: list[str]
) -> None:
    file = opened(text, **told)
    assert list(file.columns) == columns
    assert [row.cells for row in file] == rows


@pytest.mark.parametrize(
    ("text", "day_first"),
    [
        ("03/31/2024;1\n04/01/2024;2\n", False),
        ("31/03/2024;1\n01/04/2024;2\n", True),
        ("01/02/2024 0:00;1\n" * 30 + "13/02/2024 0:00;2\n", True),
        ("01/02/2024;1\n01/03/2024;2\n", None),
        ("31.03.2024;1\n01.04.2024;2\n", None),  # needs nobody's word
    ],
)
def test_the_order_of_day_and_month_is_that_of_many_lines(
    text: str, day_first: bool | None
) -> None:
    assert form(text).day_first is day_first


seconds = st.integers(1_600_000_000, 1_700_000_000)
loads = st.floats(-999, 999).map(lambda x: round(x, 3))
values = st.lists(st.tuples(seconds, loads), min_size=2, max_size=50)


@given(values, st.sampled_from([";", "\t", "|", ","]), st.sampled_from([".", ","]), st.booleans())
def test_numbers_are_read_as_they_were_written_or_refused(
    rows: list[tuple[int, float]], delimiter: str, decimal: str, header: bool
) -> None:
    """None is read as another: what isn't sure is an error."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    if header:
        writer.writerow(["time", "value"])
    writer.writerows([t, repr(x).replace(".", decimal)] for t, x in rows)
    file = opened(out.getvalue())
    assert (file.form.delimiter, file.form.header) == (delimiter, header)
    for row, (t, x) in zip(file, rows, strict=True):
        assert row.cells[0] == str(t)
        try:
            assert file.numbers.read(row.cells[1]) == x
        except ValueError as error:
            assert "--decimal" in str(error) and decimal == ","


@given(values, st.integers(1, 60))
def test_a_file_that_grows_keeps_its_form(rows: list[tuple[int, float]], more: int) -> None:
    """So that an import that is taken up reads as it began."""
    lines = ["time;value\n", *(f"{t};{str(x).replace('.', ',')}\n" for t, x in rows)]
    early = form_of(lines[:more], Told(), complete=False)
    assume(early is not None)
    assert form_of(lines, Told(), complete=True) == early


@given(values, st.data(), st.booleans(), st.sampled_from(["", "sep=;\n", "# by X\n\n"]))
def test_an_import_goes_on_behind_what_was_looked_at(
    rows: list[tuple[int, float]], data: st.DataObject, seekable: bool, start: str
) -> None:
    """From a pipe too, which can't be read twice."""
    text = start + "time;value\n" + "".join(f"{t};{x!r}\n" for t, x in rows)
    taken = data.draw(st.integers(1, len(rows)))
    first, second = (Source(io.BytesIO(text.encode()), seekable) for _ in range(2))
    reader = iter(CsvFile(first, Told()))
    for _ in range(taken):
        next(reader)
        first.accept()
    second.recognise(first.mark())
    again = CsvFile(second, Told())
    assert second.skip_to(first.mark()) == []
    assert [row.cells for row in again] == [[str(t), repr(x)] for t, x in rows[taken:]]
    assert second.place == len(text)


@given(st.text(' 0123456789.,;:|\t"#ab-\n', max_size=60))
def test_any_text_has_a_form_or_is_refused(text: str) -> None:
    try:
        file = opened(text)
    except TableError as error:
        assert str(error)
        return
    assert len(file.columns) >= 1
    assert all(row.error or row.cells for row in file)


def test_a_pipe_is_not_waited_for_where_two_lines_leave_no_choice() -> None:
    for text in ("time;v\n1;2\n", "1.5\n2.5\n", "time,n,note\n1,2,any\n"):
        assert form_of(text.splitlines(True), Told(), complete=False) is not None
    for text in ("1,5\n2,7\n", "03/04/2024;1\n04/04/2024;2\n", "t;v\n1;1,234\n"):
        assert form_of(text.splitlines(True), Told(), complete=False) is None
