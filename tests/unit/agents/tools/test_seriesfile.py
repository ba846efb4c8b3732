"""Series from bytes: the same points from every form, and each bad one named."""

import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.csvform import Told
from agents.tools.seriesfile import FileLayout, Series, open_series
from agents.tools.source import TableError

values = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), min_size=1)


def opened(data: bytes | str, **layout: object) -> Series:
    raw = data.encode() if isinstance(data, str) else data
    return open_series(io.BytesIO(raw), FileLayout(**layout))  # type: ignore[arg-type]


def read(data: bytes | str, **layout: object) -> list[tuple[object, int, tuple[float, ...]]]:
    return [(point.time, point.ts, point.values) for point in opened(data, **layout)]


def same(a: float, b: float | None) -> bool:
    return math.isnan(a) if b is None else a == b


@given(values, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_every_form_gives_the_same_points(
    wanted: list[float | None], end: str, header: bool
) -> None:
    n = len(wanted)
    cells = ["" if x is None else repr(x) for x in wanted]
    forms = [
        ("time,value" + end if header else "")
        + "".join(f"{k},{cell}{end}" for k, cell in enumerate(cells)),
        "".join(json.dumps({"t": k, "value": x}) + end for k, x in enumerate(wanted)),
        json.dumps(
            {"name": "s", "n_obs": n, "n_dim": 1, "time": {"index": [*range(n)]},
             "series": [{"label": "value", "raw": wanted}]}, indent=1,
        ).replace("\n", end),
        "".join((cell or '""') + end for cell in cells),
    ]  # fmt: skip
    for form in forms:
        # Without a header `0,1e+16` may be one number.
        told = Told(delimiter=None if header else ",")
        series = opened(b"\xef\xbb\xbf" + form.encode(), told=told)
        points = list(series)
        assert [point.index for point in points] == list(range(n))
        assert [point.time for point in points] == list(range(n))
        assert [point.ts for point in points] == [k * 1_000_000 for k in range(n)]
        assert all(same(p.values[0], x) for p, x in zip(points, wanted, strict=True))
        assert series.seen.missing == [wanted.count(None)]
        assert len(series.domains) == 1


@given(st.binary(max_size=120) | st.text('{}[]",:01.e\n raw', max_size=80))
def test_random_bytes_are_points_or_an_error(data: bytes | str) -> None:
    try:
        series = opened(data)
        width = len(series.domains)
        assert all(len(point.values) == width for point in series)
    except TableError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("data", "layout", "domains", "time"),
    [
        ("time,a,b\n1,2,3\n", {}, ("a", "b"), "time"),
        ("a,Date,b\n1,2026-01-01,3\n", {}, ("a", "b"), "Date"),
        ("a,b\n1,3\n", {}, ("b",), "a"),
        ("a,b\n1,3\n", {"time_column": "none"}, ("a", "b"), ""),
        ("a,b\n1,3\n", {"domains": ("a",)}, ("a",), ""),
        ("time,b\n1,3\n", {"domains": ("load",)}, ("load",), "time"),
        ("1,2,3\n", {}, ("column2", "column3"), "column1"),
        ("1,2,3\n", {"domains": ("2",), "time_column": "3"}, ("column2",), "column3"),
        ("5\n6\n", {"domains": ("load",)}, ("load",), ""),
        ('{"x": "q", "ts": 1, "a": 2}\n', {"domains": ("a",)}, ("a",), "ts"),
        ('{"x": "q", "a": 2}\n', {"domains": ("a",)}, ("a",), ""),
    ],
)
def test_columns(data: str, layout: dict[str, object], domains: object, time: str) -> None:
    series = opened(data, **layout)
    assert (series.domains, series.time_column) == (domains, time)
    assert len(list(series)) >= 1


@pytest.mark.parametrize(
    ("data", "layout", "says"),
    [
        ("", {}, "empty"),
        ("time,value\n", {}, "no rows"),
        ("time,a\n1,2\n2,x\n", {}, "line 3: column 'a': 'x' isn't a number"),
        ("time,a\n1,2\n\n2\n", {}, "line 4: 1 cell instead of 2"),
        ("time,a,b\n1,2,3\n", {"domains": ("c",)}, "no column 'c'; there are time, a, b"),
        ("time,a\n1,2\n", {"time_column": "when"}, "no column 'when'"),
        ("time,a,b\n1,2,3\n", {"domains": ("a",), "time_column": "a"}, "both time and domain"),
        ("time,a\n1,2\nsoon,3\n", {}, "line 3: column 'time': 'soon' is neither"),
        ("time,a\n1,2\n,3\n", {}, "line 3: column 'time'"),
        ("time,a\n1e300,2\n", {"form": "csv", "time_column": "time"}, "out of range"),
        ("time,a\n2026-13-01,2\n", {}, "line 2: column 'time'"),
        ("[1, 2]\n", {}, "array"),
        ('{"a": 1}\n{"a": "x"}\n', {}, "line 2: column 'a': 'x' isn't a number"),
        ('{"a": 1}\n{"a": [1]}\n', {}, "isn't a number"),
        ('{"ts": "2026-01-01T00:00:00Z"}\n', {}, "line 1: there are no values, only times in 'ts'"),
        ("t,b\n1,2\n", {"domains": ("b", "b")}, "domain 'b' is asked for twice"),
        ("t,b\n1,2\n", {"domains": ("2", "b")}, "domain 'b' is asked for twice"),
        ('{"a": {"b": 1},\n "c": 2}\n', {}, "no list 'series'"),
        ('{"a": 1\n', {}, "line 2: not JSON"),
        ('{"n_obs": 2,\n"series": [{"raw": [1]}]}', {}, "n_obs is 2.*has 1 values"),
        ('{"n_obs": 1, "series": [{"raw": ["x"]}]}', {}, "value 0: 'x' isn't a number"),
        ('{"n_obs": 1, "series": [{"raw": [true]}]}', {}, "true"),
        ('{"n_obs": "1", "series": [{"raw": [1]}]}', {}, "n_obs is '1'"),
        ('{"n_obs": 1, "series": [1]}', {}, "no list 'raw'"),
        ('{"n_obs": 1, "series": []}', {}, "empty 'series'"),
        ('{"n_obs": 1, "time": {"raw": [1, 2]}, "series": [{"raw": [1]}]}', {}, "time.raw"),
        ('{"n_obs": 1, "series": [{"raw": [1]}, {"raw": [2]}]}', {"domains": ("x",)}, "V1, V2"),
    ],
)
def test_what_is_wrong_is_said(data: str, layout: dict[str, object], says: str) -> None:
    with pytest.raises(TableError, match=says):
        list(opened(data, **layout))


def test_times_are_as_written_and_as_microseconds() -> None:
    assert read("t,v\n2026-01,1\n2026-01-02,2\n") == [
        ("2026-01", 1767225600000000, (1.0,)),
        ("2026-01-02", 1767312000000000, (2.0,)),
    ]
    assert read("t,v\n1.5,1\n", unit="ms") == [(1.5, 1500, (1.0,))]


@pytest.mark.parametrize(
    ("first", "unit"),
    [
        (1_767_225_600, "s"),
        (1_767_225_600_000, "ms"),
        (1_767_225_600_000_000, "us"),
        (1_767_225_600_000_000_000, "ns"),
        ("2026-01-01T00:00:00Z", ""),
        (7, "s"),
    ],
)
def test_the_unit_of_times_is_that_of_the_first(first: object, unit: str) -> None:
    series = opened(f"t,v\n{first},1\n")
    wanted = 7_000_000 if first == 7 else 1_767_225_600_000_000
    assert [point.ts for point in series] == [wanted]
    assert series.unit == unit


def test_a_unit_once_found_stays() -> None:
    assert [ts for _, ts, _ in read("t,v\n7,1\n1767225600000,2\n")][1] == 1767225600000 * 10**6


def test_times_in_words_are_kept_and_points_counted_instead() -> None:
    series = opened("quarter,v\nQ1 2020,1\nQ2 2020,2\n")
    assert [(point.time, point.ts) for point in series] == [("Q1 2020", 0), ("Q2 2020", 1_000_000)]
    assert series.seen.words


def test_oddities_are_counted() -> None:
    series = opened("t,a,b\n1,nan,1\n\n3,,2\n2,inf,3\n4,1e300,1e400\n")
    assert [point.values[1] for point in series][:3] == [1, 2, 3]
    assert series.seen.missing == [3, 1]
    assert (series.seen.backwards, series.blank, series.seen.points) == (1, 1, 4)


def test_dates_without_hyphens_are_dates_as_in_observe() -> None:
    day = 86_400_000_000
    points = read("time,v\n20240131,1\n20240201,2\n20240202,3\n")
    assert [ts - points[0][1] for _, ts, _ in points] == [0, day, 2 * day]
    with pytest.raises(TableError, match="line 3: column 'time': day is out of range"):
        read("time,v\n20240228,1\n20240230,2\n")
    assert [ts for _, ts, _ in read("time,v\n20240131,1\n20240201,2\n", unit="s")] == [
        20_240_131_000_000, 20_240_201_000_000,
    ]  # fmt: skip
