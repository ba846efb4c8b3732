"""What an import refuses before it speaks to Kafka, and what a rehearsal says of any table."""

import csv
import io
import json
import os
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.cli import main
from agents.tools.importer import POLL_S

T = 1_769_860_800


def soma(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["observe", *words], input="")
    return result.exit_code, result.stdout, result.stderr


def rehearsed(path: Path, *words: str) -> tuple[dict[str, Any], str]:
    _, text, said = soma("--csv", str(path), "--tenant", "me", "--dry-run", "--json", *words)
    return json.loads(text), said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--csv", "a", "--jsonl", "b", "--tenant", "t"), "one at a time"),
        (("--csv", "a"), "--csv wants --tenant"),
        (("--csv", "a", "--tenant", "a b"), "isn't 1-128 of"),
        (("--csv", "a", "--tenant", "t", "--domain", "d", "--domain-per-column"), "--domain or"),
        (("--csv", "a", "--tenant", "t", "--now", "--shift-to-now"), "--now or --shift-to-now"),
        (("--csv", "a", "--tenant", "t", "--interval", "1"), "--interval is for observing this"),
        (("--csv", "a", "--tenant", "t", "--delimiter", "::"), "not one character"),
        (("--csv", "a", "--tenant", "t", "--time-format", "epoch"), "there are auto, iso, s, ms"),
        (("--csv", "a", "--tenant", "t", "--bad", "x"), "--bad wants --skip-bad"),
        (("--csv", "a", "--tenant", "t", "--rate", "0"), "rate"),
        (("--jsonl", "a", "--columns", "x"), "say --tenant too"),
        (("--jsonl", "a", "--names", "x", "--tenant", "t"), "--names is for --csv"),
        (("--jsonl", "a", "--no-header", "--tenant", "t"), "--header is for --csv"),
        (("--csv", "a", "--tenant", "t", "--encoding", "utf-16"), "iconv -f utf-16"),
        (("--csv", "a", "--tenant", "t", "--encoding", "klingon"), "no encoding 'klingon'"),
        (("--csv", "a", "--tenant", "t", "--decimal", ";"), "';' is not one of"),
        (("--csv", "a", "--tenant", "t", "--name", "x", "--renamed-from", "y"), "--name or --ren"),
        (("--tenant", "t"), "--tenant is for a file"),
        (("--skip-bad",), "--skip-bad is for a file"),
    ],
)
def test_options_that_clash(words: tuple[str, ...], said: str) -> None:
    status, _, text = soma(*words)
    assert status == 2
    assert said in text


@pytest.mark.parametrize(
    ("data", "words", "said"),
    [
        (b"", (), "it is empty"),
        (b"1700000000\n", (), "none of the columns 'column1' is called"),
        (b"1,2.5\n2,3.5\n", ("--columns", "1"), "none of the columns 'column1', 'column2' is"),
        (b"1700000000\n", (), "--names names columns"),
        (b"time,a\n", ("--columns", "b"), "no column 'b'; there are 'time', 'a'"),
        (b"when,a\n", (), "say --time-column, or --now"),
        (b"time,\xb0v\n1,2\n", ("--domain-per-column",), "line 1: byte 6 (0xb0) isn't UTF-8"),
        (b"time,\xb0v,w\n1,2,3\n", ("--columns", "w"), "(--encoding says what it is)"),
        (b"#time,\xb0v\n1,2.5\n2,3.5\n", (), "the comment that names the columns isn't UTF-8"),
        ("time,a\n".encode("utf-16"), (), "UTF-16"),
        ("time,a\n".encode("utf-32"), (), "UTF-32"),
        (b"time,a\n1,2\n", ("--skip-lines", "9"), "it has 2 of the 9 lines to pass over"),
        (b"time,a\n1,2\n", ("--skip-lines", "2"), "it is empty behind line 2"),
        (b"\x1f\x8b\x08", (), "gzip"),
        (b'"time,a\n', (), "a quote stands within a cell, or isn't closed yet"),
        (b"time,a\nsoon,1\n", ("--shift-to-now",), "no time for --shift-to-now"),
    ],
)
def test_a_source_that_is_none(
    tmp_path: Path, data: bytes, words: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(data)
    status, _, text = soma("--csv", str(path), "--tenant", "me", "--dry-run", *words)
    assert status == 1
    assert str(path) in text and said in text


def test_a_file_that_isnt_there() -> None:
    status, _, text = soma("--csv", "nowhere.csv", "--tenant", "me", "--dry-run")
    assert (status, text) == (1, "Error: nowhere.csv: No such file or directory\n")


def test_a_rehearsal_counts_and_needs_no_broker(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(f"time;a;b c\n{T};1;2\n{T + 1};3;4\n")
    summary, said = rehearsed(path, "--delimiter", ";", "--domain-per-column")
    assert (summary["rows"], summary["published"], summary["refused"]) == (2, 4, 0)
    assert (summary["times"], summary["domains"]) == ("s", ["a", "b-c"])
    assert "2 rows: 4 observations checked" in said


def test_no_zone_is_said(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("2026-01-31 12:00,1\n")
    summary, said = rehearsed(path, "--names", "time,a")
    assert summary["assumed_utc"] and "taken as UTC" in said


def test_old_data_are_shifted_before_they_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("time,a\n1987-01-01,1\n1987-01-02,2\n# the end\n\n1987-02")
    assert rehearsed(path, "--skip-bad")[0]["refused"] == 2
    summary, _ = rehearsed(path, "--shift-to-now")
    assert (summary["published"], summary["refused"]) == (2, 0)
    assert summary["shift_s"] > 30 * 365 * 86_400


def test_bad_rows_are_named_up_to_a_limit_and_all_kept(tmp_path: Path) -> None:
    path, bad = tmp_path / "series.csv", tmp_path / "bad.jsonl"
    path.write_text("time,a\n" + f"{T},x\n" * 300 + f"{T},1\n")
    summary, said = rehearsed(path, "--skip-bad", "--bad", str(bad))
    assert (summary["published"], summary["refused"], len(summary["bad"])) == (1, 300, 101)
    assert said.count("which is no number") == 100
    kept = [json.loads(line) for line in bad.read_text().splitlines()]
    assert [row["line"] for row in kept] == list(range(2, 302))
    assert kept[0]["row"] == f"{T},x"


def test_json_lines_are_read_as_strictly_as_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "series.jsonl"
    good = f'{{"tenant": "me", "domain": "d", "ts": {T}000000, "vector": [1]}}'
    twice = good.replace('"domain"', '"tenant": "you", "domain"')
    path.write_text(f"\ufeff{good}\n \t{good}\n{twice}\n{good.replace('1]', 'NaN]')}\n")
    status, text, _ = soma("--jsonl", str(path), "--dry-run", "--json", "--skip-bad")
    summary = json.loads(text)
    assert (status, summary["published"]) == (1, 2)
    assert summary["bad"] == [
        {"line": 3, "reason": '"tenant": given twice'},
        {"line": 4, "reason": "NaN is no number in JSON"},
    ]


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(
        "sep=;\r\n# Anlage 7\r\nZeit;Temp °C;Druck;\r\n"
        "31.01.2026 12:00;20,64;;\r\n31.01.2026 24:00;;1,5;\r\n01.02.2026 23:59:60 UTC;1;2".encode(
            "cp1252"
        )
    )
    words = ("--encoding", "cp1252", "--time-column", "Zeit", "--domain-per-column")
    summary, said = rehearsed(path, *words)
    assert (summary["rows"], summary["published"], summary["refused"]) == (2, 2, 0)
    assert (summary["missing"], summary["comments"], summary["waiting_line"]) == (2, 1, 6)
    assert "line 6: the row isn't ended yet and waits for its rest (--final" in said
    summary, _ = rehearsed(path, *words, "--final")
    assert (summary["rows"], summary["published"]) == (3, 4)
    assert summary["domains"] == ["Temp-C", "Druck"]


@pytest.mark.parametrize(
    ("text", "published", "why"),
    [
        ("03/31/2024 00:00,20.64\n03/31/2024 01:00,20.7\n", 2, ""),
        (f"{T};20,64\n{T + 1};20,71\n", 2, ""),
        ("0;20,64\n1;20,71\n", 0, "'0' is no time"),
    ],
)
def test_the_first_of_columns_without_names_is_the_time(
    tmp_path: Path, text: str, published: int, why: str
) -> None:
    """As in `soma segment`; an import says so."""
    path = tmp_path / "series.csv"
    path.write_text(text)
    summary, said = rehearsed(path, "--domain-per-column")
    assert (summary["published"], summary["domains"]) == (published, ["column2"])
    assert "column1 is taken for the time (--time-column or --now says otherwise)" in said
    assert why in said and "no rows yet" not in said
    assert rehearsed(path, "--domain-per-column", "--now")[0]["domains"] == ["column1", "column2"]
    assert "taken for the time" not in rehearsed(path, "--time-column", "1")[1]


def test_a_file_that_has_only_its_header_so_far(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text("time,a\n")
    status, _, said = soma("--csv", str(path), "--tenant", "me", "--dry-run")
    assert (status, said.splitlines()[1:]) == (0, ["there are no rows yet"])
    told = CliRunner().invoke(main, ["segment", str(path)]).stderr
    assert "there are no rows yet after the header (a)" in told
    path.write_text(f"time,a\n{T},1")
    assert "there are no rows yet" not in rehearsed(path)[1], "one waits for its end"


def test_a_rehearsal_says_that_nothing_was_published(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(f"time,a\n{T},1\n{T},x\n")
    status, _, said = soma("--csv", str(path), "--tenant", "me", "--dry-run")
    assert status == 1 and "those before it are" not in said
    assert "Nothing was published; an import would end before that row." in said


def test_what_is_passed_over_is_told_as_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(f"time,a,b\n{T},nan,1\n{T},,2\n")
    assert "2 missing values passed over" in rehearsed(path, "--domain-per-column")[1]


def test_what_is_no_text_matters_in_a_cell_that_is_used_and_in_names(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_bytes(f"time,note,a\n{T},2°,1\n{T},°,2\n".encode("cp1252"))
    words = ("--domain-per-column", "--skip-bad")
    assert rehearsed(path, *words, "--columns", "a")[0]["published"] == 2
    assert rehearsed(path, *words)[0]["refused"] == 2
    path.write_bytes(f"time,T °C\n{T},1\n".encode("cp1252"))
    assert rehearsed(path, *words, "--encoding", "cp1252")[0]["domains"] == ["T-C"]
    assert rehearsed(path, *words, "--header", "--names", "time,T")[0]["domains"] == ["T"]
    path.write_bytes(f"#time,T °C\n{T},1\n{T},2\n".encode("cp1252"))
    assert rehearsed(path, *words, "--names", "time,T")[0]["domains"] == ["T"]


def test_columns_without_names_are_asked_for_by_number(tmp_path: Path) -> None:
    path = tmp_path / "series.csv"
    path.write_text(f"x,{T},1.5\nx,{T},2.5\n")
    summary, _ = rehearsed(path, "--time-column", "2", "--columns", "3", "--domain-per-column")
    assert (summary["published"], summary["domains"]) == (2, ["column3"])


@pytest.mark.parametrize("skip", [(), ("--skip-bad",)])
def test_half_a_line_waits(tmp_path: Path, skip: tuple[str, ...]) -> None:
    path = tmp_path / "series.csv"
    for text, rows in ((f"time,a\n{T},1\n{T},12", 1), (f'time,a\n{T},1\n"{T}\n', 1)):
        path.write_text(text)
        summary, _ = rehearsed(path, *skip)
        assert (summary["rows"], summary["refused"], summary["waiting_line"]) == (rows, 0, 3)


def test_a_pipe_may_be_silent_before_its_first_row() -> None:
    reading, writing = os.pipe()
    own = os.dup(0)

    def write() -> None:
        time.sleep(3 * POLL_S)  # longer than the import listens at once
        os.write(writing, f"time,a\n{T},1\n{T},2\n{T},3".encode())
        os.close(writing)

    writer = Thread(target=write)
    os.dup2(reading, 0)
    try:
        writer.start()
        status, text, said = soma("--csv", "-", "--tenant", "me", "--dry-run", "--json")
    finally:
        os.dup2(own, 0)
        writer.join()
        os.close(own)
        os.close(reading)
    assert (status, json.loads(text)["published"]) == (0, 2), said
    assert json.loads(text)["waiting_line"] == 4


cells = st.one_of(
    st.integers(-5, 5).map(str), st.floats().map(repr), st.text(max_size=4), st.just("")
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=8))
def test_every_row_of_any_table_is_published_or_named(
    tmp_path: Path, rows: list[list[str]]
) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["time", "a", "b"], *([str(T), *row] for row in rows)])
    path = tmp_path / "any.csv"
    path.write_bytes(out.getvalue().encode("utf-8", "surrogatepass"))
    summary, _ = rehearsed(path, "--skip-bad", "--delimiter", ",", "--header", "--final")
    assert summary["rows"] == len(rows) == summary["published"] + summary["refused"]
    assert len(summary["bad"]) == summary["refused"]
