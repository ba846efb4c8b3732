"""`soma segment`: what it prints, and what it says of bad input."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from agents.cli import main
from agents.tools.clock import Clock
from agents.tools.seriesfile import open_series

pytestmark = pytest.mark.kernel
NOISE = np.random.default_rng(1).normal(size=400)
STEP = NOISE + 4.0 * (np.arange(400) >= 200)


def soma(*words: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["segment", *map(str, words)], input=stdin)


def printed(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def lines(*columns: object) -> str:
    rows = zip(*columns, strict=True)  # type: ignore[call-overload]
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in rows)


def test_a_step_is_found_in_every_form_and_from_standard_input(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text(lines(STEP))
    (found,) = printed(soma(plain))
    assert set(found) == {"index", "at", "time", "evidence", "score"}
    assert abs(found["index"] - 200) <= 2
    assert found["index"] <= found["at"] < 215
    assert (found["time"], found["evidence"]) == (found["index"], "cpd")
    assert printed(soma("-", stdin=plain.read_bytes())) == [found]
    document = {
        "name": "s", "n_obs": 400, "n_dim": 1, "time": {"index": [*range(400)]},
        "series": [{"raw": STEP.tolist()}],
    }  # fmt: skip
    (tmp_path / "s.json").write_text(json.dumps(document, indent=1))
    assert printed(soma(tmp_path / "s.json")) == [found]


def test_columns_are_domains_with_settings_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "two.csv"
    file.write_text("second,a,b\n" + lines(range(400), STEP, -10 * STEP))
    a, b = printed(soma(file))
    assert (a.pop("domain"), b.pop("domain")) == ("a", "b")
    assert abs(a["index"] - b["index"]) <= 1
    only = printed(soma(file, "--domain", "b"))
    assert [one["index"] for one in only] == [b["index"]]
    assert "domain" not in only[0]
    off = printed(soma(file, "--set", "cpd@a=off"))
    assert [one["domain"] for one in off] == ["b"]


@pytest.mark.parametrize("mode", ["glr", "bocpd", "hmm", "threshold"])
def test_every_mode_runs_causally(mode: str, tmp_path: Path) -> None:
    whole, half = tmp_path / "whole", tmp_path / "half"
    whole.write_text(lines(STEP))
    half.write_text(lines(STEP[:220]))
    full = printed(soma(whole, "--mode", mode))
    assert full
    assert [one for one in full if one["at"] < 220] == printed(soma(half, "--mode", mode))
    assert all(one["index"] <= one["at"] for one in full)


def test_milliseconds_are_taken_for_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "ms.csv"
    file.write_text("ts,v\n" + lines([1_767_225_600_000 + 1000 * k for k in range(400)], STEP))
    done = soma(file, "--set", "max_dwell_ms=100000")
    found = printed(done)
    assert [one["at"] for one in found if one["evidence"] == "max_dwell"] == [100, 200, 300]
    assert "time is 'ts' (in ms)" in done.stderr


def test_labels_are_scored(tmp_path: Path) -> None:
    file, labels = tmp_path / "s.csv", tmp_path / "labels.txt"
    file.write_text(lines(STEP))
    labels.write_text("200\n")
    done = soma(file, "--labels", labels, "--summary")
    *_, last = printed(done)
    figures = last["summary"]["domains"]["column1"]
    assert (figures["f1"], figures["false_boundaries"]) == (1.0, 0)
    assert figures["covering"] > 0.98
    assert 4 <= figures["delay_median"] <= 12
    assert "F1 1.000" in done.stderr


def timed(values: Any, step_s: int = 3600) -> str:
    """Values with their times, hour by hour."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(seconds=step_s * k) for k in range(len(values))]
    return "time,load\n" + lines([f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in times], values)


def test_labels_may_be_times_and_an_empty_file_is_a_quiet_series(tmp_path: Path) -> None:
    file, labels = tmp_path / "load.csv", tmp_path / "labels.txt"
    file.write_text(timed(STEP))
    labels.write_text("2026-01-09T08:00:00Z\n")  # hour 200
    *_, last = printed(soma(file, "--labels", labels, "--summary"))
    scored = last["summary"]["domains"]["load"]
    assert (scored["f1"], scored["false_boundaries"]) == (1.0, 0)
    for behind in ("2027-01-01\n", "400\n"):
        labels.write_text(behind)
        done = soma(file, "--labels", labels, "--summary")
        scored = printed(done)[-1]["summary"]["domains"]["load"]
        assert (scored["recall"], scored["false_boundaries"]) == (0.5, 1)
        assert "1 label behind the last point" in done.stderr
    labels.write_text("")
    *_, last = printed(soma(file, "--labels", labels, "--summary"))
    scored = last["summary"]["domains"]["load"]
    assert (scored["precision"], scored["recall"], scored["false_boundaries"]) == (0.5, 1.0, 1)
    plain = tmp_path / "plain.txt"
    plain.write_text(lines(STEP))
    labels.write_text("2026-01-09\n")
    refused = soma(plain, "--labels", labels)
    assert refused.exit_code == 1 and "holds times, and" in refused.output


def test_labels_are_read_as_the_series_times_are(tmp_path: Path) -> None:
    file, labels = tmp_path / "days.csv", tmp_path / "labels.txt"
    start = datetime(2023, 7, 17, tzinfo=UTC)
    days = [start + timedelta(days=k) for k in range(len(STEP))]
    for form, days_label, more in (
        ("%Y%m%d", "20240202\n", ()),
        ("%Y-%m-%d", "20240202\n", ()),
        ("%Y%m%d", "2024-02-02\n", ()),
        ("%d/%m/%Y", "02/02/2024\n", ()),
        ("%d/%m/%Y", "03/02/2024\n", ("--day-first",)),
        ("%d/%m/%Y", "03/02/2024\n", ()),  # the series leaves no choice
    ):
        file.write_text("date,load\n" + lines([f"{day:{form}}" for day in days], STEP))
        labels.write_text(days_label)
        *_, last = printed(soma(file, "--labels", labels, "--summary", *more))
        scored = last["summary"]["domains"]["load"]
        assert (scored["f1"], scored["false_boundaries"]) == (1.0, 0), (form, days_label)
    labels.write_text("20240202\n3\n")
    refused = soma(file, "--labels", labels)
    assert refused.exit_code == 1 and "some labels are indices, others times" in refused.output
    labels.write_text("03/02/2024\n")
    file.write_text(lines(STEP))
    refused = soma(file, "--labels", labels, "--no-header")
    assert refused.exit_code == 1 and "say --day-first" in refused.output


def test_dates_of_json_lines_have_the_order_that_was_told(tmp_path: Path) -> None:
    file = tmp_path / "days.jsonl"
    file.write_text("".join(f'{{"time": "0{k}/02/2024", "v": {k}}}\n' for k in range(1, 9)))
    assert "say --day-first" in soma(file).output
    assert soma(file, "--day-first").exit_code == 0


def test_a_daily_cycle_alone_is_no_change_with_period(tmp_path: Path) -> None:
    t = np.arange(24 * 30)
    daily = 10.0 * np.sin(2 * np.pi * t / 24) + np.random.default_rng(3).normal(size=len(t))
    file = tmp_path / "load.csv"
    file.write_text(timed(daily))
    assert len(printed(soma(file))) >= 1
    for words in (["--period", "auto"], ["--period", "24"]):
        done = soma(file, *words, "--summary")
        assert [*printed(done)[0]] == ["summary"]
        assert printed(done)[0]["summary"]["domains"]["load"]["period"] == 24
        assert "load: a period of 24 points is taken out" in done.stderr
    file.write_text(timed(daily + 4.0 * (t >= 500)))
    (one,) = printed(soma(file, "--period", "24"))
    assert abs(one["index"] - 500) <= 3 and one["at"] < 515
    assert one["time"].startswith("2026-01-21T")
    short = soma("-", "--period", "300", stdin=lines(STEP).encode())
    assert "no period is taken out" in short.stderr
    assert [abs(found["index"] - 200) <= 2 for found in printed(short)] == [True]
    for wrong in ("3", "x", "1000000", "-5"):
        refused = soma(file, f"--period={wrong}")
        assert refused.exit_code == 2 and "neither auto nor a number" in refused.output


def test_a_pictures_axis_is_time_where_the_file_has_times(tmp_path: Path) -> None:
    def axis(text: str) -> Any:
        series = open_series(io.BytesIO(text.encode()))
        clock = Clock()
        for point in series:
            clock.push(point.ts)
        return clock.axis(series)

    dated = axis(timed(STEP))
    assert (dated.label, dated.dated) == ("time, UTC", True)
    day = float(dated.place(24) - dated.place(0))
    assert day == pytest.approx(1.0) and float(dated.place(0)) == pytest.approx(20_454.0)
    assert axis("time,x\n" + lines(range(1_767_225_600, 1_767_225_700), range(100))).dated
    counted = axis("second,x\n" + lines(range(0, 200, 2), range(100)))
    assert (counted.label, counted.dated, float(counted.place(50))) == ("second (s)", False, 100.0)
    assert axis(lines(STEP)) is None
    assert axis("day,x\n" + lines(["monday", "tuesday"] * 20, range(40))) is None
    assert axis("time,x\n" + lines([5, 4, 3, 2], range(4))) is None
    file, picture = tmp_path / "load.csv", tmp_path / "load.png"
    file.write_text(timed(STEP))
    assert soma(file, "--plot", picture).exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib isn't installed")
    pytest.importorskip("plotext", reason="plotext isn't installed")
    file, picture = tmp_path / "s.csv", tmp_path / "s.png"
    file.write_text(lines(STEP))
    done = soma(file, "--plot", picture, "--show")
    assert len(printed(done)) == 1
    assert "found" in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = soma(file, "--plot", tmp_path / "no" / "s.png")
    assert done.exit_code == 1 and done.stdout == ""  # before the input is read
    assert f"there is no folder {tmp_path / 'no'}" in done.stderr


@pytest.mark.parametrize(
    ("data", "words", "says"),
    [
        (b"", [], "it is empty"),
        (b"time,value\n1,2\n2,many\n", [], "line 3: column 'value': 'many' isn't a number"),
        (b"time,a,b\n1,2,3\n", ["--domain", "c"], "no column 'c'"),
        (b"a,b,c\n1,2,3\n1,2\n", [], "line 3: 2 cells instead of 3"),
        (b"\x00\x01\x02", [], "binary"),
        (b'{"a": \n1}', [], "no list 'series'"),
        (b"1\n", ["--set", "cdp=glr"], "no setting 'cdp'"),
        (b"1\n", ["--set", "cpd=best"], "cpd is one of"),
        (b"1\n", ["--set", "cpd@x=off"], "no domain 'x'"),
        (b"1\n", ["--set", "cpd"], "isn't NAME=VALUE"),
        (b"1\n", ["--delimiter", ",,"], "one character"),
        (b"20,64\n20,71\n", [], "say --delimiter , or --decimal ,"),
        (b"03/04/2024,1\n04/04/2024,2\n", [], "say --day-first or --month-first"),
        (b"time;v\n1;1,234\n", [], "'1,234' isn't a number (1.234 or 1234? --decimal says)"),
        (b"time,v\n1,2", [], "line 2: the row isn't ended yet"),
        ("t,°C\n1,2\n".encode("cp1252"), [], "isn't UTF-8 (--encoding says what it is)"),
        (b'{"v": 1, "v": 2}\n', [], '"v": given twice'),
        (b"1\n", ["--set", "leader=on"], "leader is for tenants of the stream"),
        (b"1\n", ["--plot", "s.xyz"], "s.xyz doesn't end in .png"),
    ],
)
def test_bad_input_is_one_clear_message(data: bytes, words: list[str], says: str) -> None:
    done = soma("-", *words, stdin=data)
    assert done.exit_code != 0
    assert says in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


def test_a_file_that_is_not_there() -> None:
    done = soma("nowhere.csv")
    assert done.exit_code == 1
    assert "nowhere.csv can't be read: No such file" in done.stderr


def test_lawful_oddities_are_told() -> None:
    done = soma("-", stdin=b"\xef\xbb\xbftime,v\r\n5,1e300\r\n\r\n4,\r\n6,nan\r\n7,-1e300\r\n")
    assert printed(done) == []
    for text in (
        "4 points",
        "2 missing values",
        "1 empty line passed",
        "1 point earlier",
        "'time'",
    ):
        assert text in done.stderr
    assert "1 point of column1, 0 boundaries" in soma("-", stdin=b"5\n").stderr
    assert soma("-", "--quiet", stdin=b"5\n").stderr == ""


@pytest.mark.parametrize(
    ("style", "words"),
    [
        (lambda k, x: f"{k};{x:.3f}".replace(".", ","), []),
        (lambda k, x: f"{x:.3f}".replace(".", ","), ["--decimal", ","]),
        (lambda k, x: f"03/{30 + k // 240}/2024 {k % 240 // 60:02}:{k % 60:02},{x:.3f}", []),
        (lambda k, x: f"31.03.2024 {k % 24:02}:{k // 24:02}:00 UTC\t{x:.3f}", []),
    ],
)
def test_a_step_is_found_however_the_file_is_written(style: Any, words: list[str]) -> None:
    """No header, decimal commas, dates as people write them: each row counts, none is misread."""
    text = "".join(f"{style(k, x)}\n" for k, x in enumerate(STEP))
    done = soma("-", *words, "--summary", stdin=text.encode())
    found, summary = printed(done)
    assert abs(found["index"] - 200) <= 2
    assert summary["summary"]["points"] == 400


def test_a_last_line_without_its_end_is_not_taken_unless_told() -> None:
    """It may be half of one: `tail -f` was stopped within it."""
    text = lines(STEP).encode() + b"12"
    waits, takes = (soma("-", "--summary", *words, stdin=text) for words in ((), ("--final",)))
    summaries = [printed(done)[-1]["summary"] for done in (waits, takes)]
    assert [one["points"] for one in summaries] == [400, 401]
    assert [one["waiting_line"] for one in summaries] == [401, None]
    assert "line 401: the row isn't ended yet" in waits.stderr


def test_what_came_before_a_bad_line_has_been_printed() -> None:
    done = soma("-", stdin=(lines(STEP) + "oops\n").encode())
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 1
    assert "line 401" in done.stderr


def test_standard_input_prints_as_it_goes() -> None:
    """The boundary is out while the writer holds its end open."""
    words = [sys.executable, "-m", "agents.cli", "segment", "-", "--quiet"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(lines(STEP).encode())
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
        assert abs(found["index"] - 200) <= 2
        process.stdin.close()
        assert process.wait(30) == 0
