"""Rows: what was written is read back, from whatever row on, and what is wrong is passed over."""

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.rows import csv_rows, json_rows
from agents.tools.source import Mark, ReplacedError, Row, Source, TableError

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x00"), max_size=8)
tables = st.lists(st.lists(texts, min_size=2, max_size=4), max_size=12)


def source(data: bytes, seekable: bool = True, limit: int = 1 << 20, final: bool = True) -> Source:
    return Source(io.BytesIO(data), seekable, limit, final=final)


def written(rows: list[list[str]], delimiter: str, end: str) -> bytes:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    return out.getvalue().encode()


@given(tables, st.sampled_from([",", ";", "\t", "|"]), st.sampled_from(["\n", "\r\n"]))
def test_what_the_csv_module_writes_is_read_back(
    rows: list[list[str]], delimiter: str, end: str
) -> None:
    data = written(rows, delimiter, end)
    found = list(csv_rows(source(b"\xef\xbb\xbf" + data), delimiter))
    assert [row.cells for row in found] == rows
    assert not any(row.error for row in found)


@given(st.lists(st.dictionaries(texts, st.integers() | texts, max_size=4), max_size=10))
def test_json_lines_are_read_back(objects: list[dict[str, object]]) -> None:
    data = "".join(json.dumps(one) + "\r\n\n" for one in objects).encode()
    found = list(json_rows(source(data)))
    assert [row.cells for row in found] == objects
    assert [row.line for row in found] == [2 * k + 1 for k in range(len(objects))]


@given(tables, st.data(), st.booleans(), st.booleans())
def test_an_import_goes_on_at_any_row(
    rows: list[list[str]], data: st.DataObject, seekable: bool, ended: bool
) -> None:
    text = written([["a", "b"], *rows], ",", "\n")
    text = text if ended else text[:-1]
    first = source(text, seekable)
    reader = csv_rows(first)
    next(reader)
    all_rows = [row.cells for row in csv_rows(source(text))][1:]
    taken = data.draw(st.integers(0, len(all_rows)))
    lines = []
    for _ in range(taken):
        lines.append(next(reader).line)
        first.accept()
    mark = first.mark()
    if not taken:
        return  # nothing accepted: nothing is noted
    second = source(text, seekable)
    next(csv_rows(second))
    second.skip_to(mark)
    rest = list(csv_rows(second))
    assert [row.cells for row in rest] == all_rows[taken:]
    assert all(row.line > lines[-1] for row in rest)


@given(st.integers(0, 3), tables.filter(bool))
def test_a_look_at_the_first_line_changes_nothing(blank: int, rows: list[list[str]]) -> None:
    text = b"\xef\xbb\xbf" + b"\n" * blank + written(rows, ",", "\n")
    looked, plain = source(text), source(text)
    first = looked.first()
    assert first.strip() and looked.first() == first
    for one in (looked, plain):
        for row in csv_rows(one):
            assert row.line > blank
            one.accept()
    assert (looked.mark(), looked.place, looked.line) == (plain.mark(), plain.place, plain.line)
    assert looked.blank == plain.blank == blank


def test_strictly_every_byte_is_text() -> None:
    bad = b'1,2\n3,"\x00"\n5,"\xff"\n7,"\n\xe9",8\n9,10\n'
    rows = list(csv_rows(Source(io.BytesIO(bad), strict=True, final=True)))
    assert (rows[0].line, rows[0].cells) == (1, ["1", "2"])
    assert [(row.line, row.error) for row in rows if row.error][:2] == [
        (2, "a zero byte: this is a binary file, no text"),
        (3, "byte 4 (0xff) isn't UTF-8 (--encoding says what it is)"),
    ]
    assert (rows[-1].line, rows[-1].cells) == (6, ["9", "10"])


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_rows_or_errors(data: bytes, as_json: bool) -> None:
    one = source(data, limit=50)
    try:
        rows: list[Row[Any]] = list(json_rows(one)) if as_json else list(csv_rows(one))
    except TableError as error:
        assert str(error).startswith("this is ")
        return
    assert one.place == len(data)
    assert all(row.cells or row.error or as_json for row in rows)


@pytest.mark.parametrize("seekable", [True, False])
def test_another_file_is_noticed(seekable: bool) -> None:
    first = source(b"time,a\n1,2\n3,4\n5,6\n", seekable)
    reader = csv_rows(first)
    for _ in range(3):
        next(reader)
        first.accept()
    mark = first.mark()
    for other in (b"time,a\n1,2\n9,4\n5,6\n", b"time,b\n1,2\n3,4\n5,6\n", b"time,a\n"):
        second = source(other, seekable)
        next(csv_rows(second))
        with pytest.raises(TableError, match="aren't those that were imported"):
            second.skip_to(mark)
    changed_behind = source(b"time,a\n1,2\n3,4\n7,7\n8,8\n", seekable)
    next(csv_rows(changed_behind))
    changed_behind.skip_to(mark)
    assert [row.cells for row in csv_rows(changed_behind)] == [["7", "7"], ["8", "8"]]


def test_a_last_line_that_went_on_is_a_bad_row() -> None:
    first = source(b"a\n1\n2")
    for _ in csv_rows(first):
        first.accept()
    for more, rows in ((b"", []), (b"\n", []), (b"\n3\n", [["3"]])):
        second = source(b"a\n1\n2" + more)
        assert second.skip_to(first.mark()) == []
        assert [row.cells for row in csv_rows(second)] == rows
    second = source(b"a\n1\n23\n4\n", final=False)
    (torn,) = second.skip_to(first.mark())
    assert (torn.line, second.raw) == (3, b"3\n") and torn.error.startswith("went on after it")
    second.accept()
    third = source(b"a\n1\n23\n4\n", final=False)
    assert third.skip_to(second.mark()) == []
    for one in (second, third):
        assert [(row.line, row.cells) for row in csv_rows(one)] == [(4, ["4"])]
    waits = source(b"a\n1\n23", final=False)
    assert waits.skip_to(first.mark()) == [] and waits.waiting == 3
    assert list(csv_rows(waits)) == []


@given(tables.filter(bool), st.sampled_from(["\n", "\r\n"]), st.data())
def test_a_file_that_grows_gives_each_row_once_and_no_half_of_one(
    rows: list[list[str]], end: str, data: st.DataObject
) -> None:
    """Whatever its length was at each reading, within a row, its quotes or its line end."""
    text = written([["a", "b"], *rows], ",", end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    found: list[list[str]] = []
    mark = None
    for cut in [*cuts, len(text)]:
        one = source(text[:cut], data.draw(st.booleans()), final=False)
        torn = one.skip_to(mark) if mark is not None else []
        assert torn == []
        for row in csv_rows(one):
            assert not row.error
            found.append(row.cells)
            one.accept()
        mark = one.mark() if found else None
        assert (one.waiting > 0) == (text[:cut] != b"" and mark_of(mark) < cut and bool(
            text[mark_of(mark) : cut].strip(b"\r\n") or not text[:cut].endswith(b"\n")
        ))  # fmt: skip
    assert found == [["a", "b"], *rows]


def mark_of(mark: Mark | None) -> int:
    return 0 if mark is None else mark.place


@given(st.lists(st.dictionaries(texts, st.integers() | texts, max_size=3), min_size=1), st.data())
def test_json_lines_that_grow_give_each_object_once(
    objects: list[dict[str, Any]], data: st.DataObject
) -> None:
    text = "".join(json.dumps(one) + "\n" for one in objects).encode()
    cut = data.draw(st.integers(0, len(text)))
    first = source(text[:cut], final=False)
    found = []
    for row in json_rows(first):
        assert not row.error
        found.append(row.cells)
        first.accept()
    assert bool(first.waiting) == (not text[:cut].endswith(b"\n") and cut > 0)
    second = source(text, final=False)
    assert not found or second.skip_to(first.mark()) == []
    assert found + [row.cells for row in json_rows(second)] == objects


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (b"", "it has no more than 0"),
        (b"time,a\n1,2\n", "it has no more than 11"),
        (b"time,b\n1,2\n3,4\n5,6\n", "it begins otherwise"),
    ],
)
def test_a_file_that_was_rotated_is_known_before_it_is_read(now: bytes, why: str) -> None:
    first = source(b"time,a\n1,2\n3,4\n")
    for _ in csv_rows(first):
        first.accept()
    with pytest.raises(ReplacedError, match=f"first 15 bytes aren't those.*{why}"):
        source(now).recognise(first.mark())
    same = source(b"time,a\n1,2\n3,4\n5,6\n")
    same.recognise(first.mark())
    assert next(row.cells for row in csv_rows(same)) == ["time", "a"]


def test_comments_are_passed_over_where_a_row_could_begin() -> None:
    text = b'# made by "X\na,b\n#1,2\n3,"4\n# no comment"\n#'
    one = source(text, final=False)
    one.commented = True
    rows = []
    for row in csv_rows(one):
        rows.append((row.line, row.cells))
        one.accept()
    assert rows == [(2, ["a", "b"]), (4, ["3", "4\n# no comment"])]
    assert one.comments >= 2 and one.mark().place == text.rindex(b"#")


def test_a_comment_beyond_the_limit_is_a_bad_row_not_the_end_of_one() -> None:
    one = source(b"1,2\n#" + b"x" * 95 + b",3,4,5,6,7\n8,9\n", limit=100)
    one.commented = True
    assert [row.cells for row in csv_rows(one)] == [["1", "2"], [], ["8", "9"]]


def test_other_encodings_are_decoded_and_lines_counted_in_bytes() -> None:
    text = "temp °C,b\n1,2\n"
    one = Source(io.BytesIO(text.encode("cp1252")), strict=True, encoding="cp1252")
    assert [row.cells for row in csv_rows(one)] == [["temp °C", "b"], ["1", "2"]]
    assert one.place == len(text)


def test_lines_are_counted_through_quotes_blanks_and_errors() -> None:
    text = b'a,b\n"x\ny",1\n\n2,"3"4\n5,6\n7,"8\n'
    rows = list(csv_rows(source(text)))
    assert [(row.line, row.cells) for row in rows if not row.error] == [
        (1, ["a", "b"]), (2, ["x\ny", "1"]), (6, ["5", "6"]),
    ]  # fmt: skip
    assert [(row.line, row.error) for row in rows if row.error] == [
        (5, "not CSV: ',' expected after '\"'"), (7, "not CSV: unexpected end of data"),
    ]  # fmt: skip


def test_a_row_beyond_the_limit_is_passed_over() -> None:
    for long in (b"x" * 500, b'"' + b"x\n" * 60 + b'y"'):
        one = source(b"1,2\n" + long + b"\n3,4\n", limit=100)
        rows = list(csv_rows(one))
        assert rows[0].cells == ["1", "2"]
        assert rows[1].line == 2 and rows[1].error == "longer than 100 bytes"
    one = source(b"1,2\n" + b"x" * 500 + b"\n3,4\n", limit=100)
    assert [row.cells for row in csv_rows(one)] == [["1", "2"], [], ["3", "4"]]
    bad = list(json_rows(source(b'{"a":' + b" " * 500 + b'1}\n{"a":2}\n', limit=100)))
    assert (bad[0].error, bad[1].cells) == ("longer than 100 bytes", {"a": 2})


@pytest.mark.parametrize(
    ("data", "why"),
    [("a,b\n".encode("utf-16"), "UTF-16"), (b"\x1f\x8b\x08", "gzip"), (b"PK\x03\x04", "zip")],
)
def test_what_is_no_text_is_named(data: bytes, why: str) -> None:
    with pytest.raises(TableError, match=why):
        list(csv_rows(source(data)))


def test_other_encodings_matter_only_where_they_are_used() -> None:
    (row,) = csv_rows(source("1,M\u00fcnchen\n".encode("latin-1")))
    assert row.cells[0] == "1" and not row.error
