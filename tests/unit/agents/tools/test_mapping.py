"""Rows as observations: what a row says is what the topic gets, and each wrong cell is named."""

import io
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.predictors import state
from agents.tools.csvform import Told
from agents.tools.mapping import (
    DIM_MAX,
    BadRowError,
    Mapper,
    MappingError,
    MappingOptions,
    number,
    time_column,
)
from agents.tools.numbers import Numbers
from agents.tools.seriesfile import FileLayout, open_series
from agents.tools.source import Row
from agents.tools.times import Times
from topics import codec

T = "2026-01-31T12:00:00Z"
TS = 1_769_860_800_000_000
floats = st.floats(-(2.0**127), 2.0**127, allow_nan=False, width=32)


def mapper(names: list[str], times: Times | None = None, **how: Any) -> Mapper:
    one = Mapper(MappingOptions(tenant="me", **how), times or Times(), numbers=Numbers("."))
    one.learn(names)
    return one


def read(records: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    return [codec.decode(value)[1] for _, value in records]


def test_the_longest_vector_is_the_predictors() -> None:
    assert DIM_MAX == state.DIM_MAX


@given(st.lists(floats, min_size=1, max_size=6))
def test_a_row_is_one_vector(values: list[float]) -> None:
    names = ["time", *(f"v{k}" for k in range(len(values)))]
    records = mapper(names).of_csv(Row(2, [T, *map(repr, values)]), 0)
    assert records[0][0] == b"me"
    (record,) = read(records)
    assert (record["tenant"], record["domain"], record["ts"]) == ("me", "state", TS)
    assert np.frombuffer(record["vector"], "<f4").tolist() == values


@given(st.lists(floats, min_size=1, max_size=6))
def test_or_a_domain_a_column(values: list[float]) -> None:
    names = [*(f"v {k}" for k in range(len(values))), "ts"]
    row: dict[str, Any] = dict(zip(names, [*values, T], strict=True))
    one = mapper(names, per_column=True)
    assert one.of_json(Row(1, row), 0) == one.of_csv(Row(1, [*map(repr, values), T]), 0)
    found = read(one.of_json(Row(1, row), 0))
    assert [record["domain"] for record in found] == [f"v-{k}" for k in range(len(values))]
    assert [struct.unpack("<f", record["vector"])[0] for record in found] == values


@given(
    st.lists(st.none() | floats, min_size=1, max_size=6), st.sampled_from(["", " ", "NA", "nan"])
)
def test_a_missing_cell_is_no_observation_of_its_domain(
    values: list[float | None], gap: str
) -> None:
    names = ["ts", *(f"v{k}" for k in range(len(values)))]
    one = mapper(names, per_column=True)
    cells = [gap if x is None else repr(x) for x in values]
    records = one.of_csv(Row(2, [T, *cells]), 0)
    assert one.of_json(Row(2, dict(zip(names, [T, *values], strict=True))), 0) == records
    found = {one["domain"]: struct.unpack("<f", one["vector"])[0] for one in read(records)}
    assert found == {f"v{k}": x for k, x in enumerate(values) if x is not None}
    assert one.missing == 2 * values.count(None)


def test_a_missing_text_of_an_object_is_no_observation_of_its_domain() -> None:
    one = mapper(["ts", "a", "b"], per_column=True)
    (record,) = read(one.of_json(Row(1, {"ts": T, "a": "NA", "b": 2}), 0))
    assert record["domain"] == "b"


@pytest.mark.parametrize(
    ("names", "time"),
    [
        (["index", "Date", "v"], "Date"),
        (["v", " Time "], " Time "),
        (["v", "second"], "second"),
        (["", "v"], ""),
        (["date", "time"], "date"),
    ],
)
def test_the_column_of_times_is_the_same_for_both_commands(names: list[str], time: str) -> None:
    """An import takes the column that `soma segment` does."""
    assert time_column("", names) == time
    text = ",".join(names) + "\n" + ",".join("1" for _ in names) + "\n"
    series = open_series(io.BytesIO(text.encode()), FileLayout("csv", told=Told(header=True)))
    assert series.time_column == time.strip()


def test_columns_are_chosen_and_ordered() -> None:
    one = mapper(["a", "when", "b", "note"], columns=("b", "a"), time_column="when")
    (record,) = read(one.of_csv(Row(2, ["1", T, "2", "any"]), 0))
    assert np.frombuffer(record["vector"], "<f4").tolist() == [2.0, 1.0]


def test_lists_and_numbers_of_an_object_are_one_vector() -> None:
    one = Mapper(MappingOptions(tenant="me", columns=("x", "y"), domain="d"), Times())
    (record,) = read(one.of_json(Row(1, {"time": T, "x": [1, 2.5], "y": 3, "z": "any"}), 0))
    assert np.frombuffer(record["vector"], "<f4").tolist() == [1.0, 2.5, 3.0]


def test_the_present_time_needs_no_column() -> None:
    (record,) = read(mapper(["a"], now=True).of_csv(Row(2, ["1"]), TS))
    assert record["ts"] == TS


@pytest.mark.parametrize(
    ("names", "how", "why"),
    [
        (["time", "a"], {"columns": ("b", "c")}, "no column 'b', 'c'; there are 'time', 'a'"),
        (["time", "a"], {"time_column": "t"}, "no time column 't'; there are 'time', 'a'"),
        (["a", "b"], {}, "none of the columns 'a', 'b' is called time or ts"),
        (["time"], {}, "no column of values beside 'time'"),
        (["t", *map(str, range(4_097))], {"per_column": True}, "4,097 columns (at most 4,096"),
        (["time", "a", "a"], {}, "several columns 'a'"),
        (["time", "a", "time"], {}, "several columns 'time'"),
        (["time", "a b", "a-b"], {"per_column": True}, "would become domains 'a-b', 'a-b'"),
        (["time", "\u00fc"], {"per_column": True}, "would become domains ''"),
    ],
)
def test_columns_that_there_arent(names: list[str], how: dict[str, Any], why: str) -> None:
    with pytest.raises(MappingError) as caught:
        mapper(names, **how)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        ([T, "1"], "2 cells where the header has 3"),
        ([T, "1", "2", "3"], "4 cells where the header has 3"),
        ([T, "1", ""], "column 'b' is empty"),
        ([T, "1", "x"], "column 'b' has 'x', which is no number"),
        ([T, "1", "NA"], "column 'b' has 'NA', a missing value (--domain-per-column"),
        (
            [T, "1,5", "2"],
            "column 'a' has '1,5', which is no number (a decimal comma? --decimal ,)",
        ),
        ([T, "1_000", "2"], "column 'a' has '1_000', which is no number"),
        ([T, "\u0663", "2"], "column 'a' has"),
        ([T, "nan", "2"], "column 'a' has nan, which isn't finite"),
        ([T, "-inf", "2"], "column 'a' has -inf"),
        ([T, "1e400", "2"], "column 'a' has '1e400', which is beyond float32"),
        ([T, "1e300", "2"], "column 'a' has 1e+300, which is beyond float32"),
        (["", "1", "2"], "time 'time' is empty"),
        (["1999-01-01", "1", "2"], "before 2000-01-01"),
        (["2026-01-31T11:59:59Z", "1", "2"], "the time goes back"),
    ],
)
def test_a_bad_row_is_named_and_changes_nothing(cells: list[str], why: str) -> None:
    one = mapper(["time", "a", "b"])
    one.of_csv(Row(2, [T, "1", "2"]), 0)
    with pytest.raises(BadRowError) as caught:
        one.of_csv(Row(3, cells), 0)
    assert why in str(caught.value)
    assert one.last == TS
    assert len(one.of_csv(Row(4, [T, "1", "2"]), 0)) == 1, "the same time again is no step back"


def test_any_order_lets_the_time_go_back() -> None:
    one = mapper(["time", "a"], any_order=True)
    assert one.of_csv(Row(2, [T, "1"]), 0)
    assert one.of_csv(Row(3, ["2026-01-30T00:00:00Z", "1"]), 0)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"time": T}, "there is no field 'a'; there are 'time'"),
        ({"a": 1}, "there is no field 'time'"),
        ({"time": T, "a": "1"}, "field 'a' has '1', which is no number"),
        ({"time": T, "a": True}, "field 'a' has True"),
        ({"time": T, "a": None}, "field 'a' has None"),
        ({"time": T, "a": [1, [2]]}, "field 'a' has [2]"),
        ({"time": T, "a": math.nan}, "isn't finite"),
        ({"time": T, "a": 10**400}, "beyond float32"),
        ({"time": T, "a": []}, "0 numbers"),
        ({"time": T, "a": [0] * (DIM_MAX + 1)}, "32769 numbers"),
    ],
)
def test_a_bad_object_is_named(data: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRowError) as caught:
        mapper(["time", "a"]).of_json(Row(1, data), 0)
    assert why in str(caught.value)


def test_ready_observations_go_as_they_are() -> None:
    one = Mapper(MappingOptions(), Times(shift=5))
    data = {"tenant": "t", "domain": "d", "ts": T, "vector": [1, 2], "sequence": 7}
    records = one.of_json(Row(1, data), 0)
    (record,) = read(records)
    assert records[0][0] == b"t"
    assert (record["ts"], record["sequence"]) == (TS + 5, 7)
    earlier = {**data, "ts": "2026-01-01T00:00:00Z"}
    assert one.of_json(Row(2, earlier), 0), "several series may be mixed"
    for wrong, why in (
        ({"tenant": "a b"}, "tenant: 'a b' isn't"),
        ({"domain": ""}, "domain: ''"),
        ({"vector": []}, "vector: has not"),
        ({"vector": ["x"]}, "vector: [0]"),
        ({"ts": "1999-01-01T00:00:00Z"}, "ts: 1999"),
        ({"colour": "red"}, '"colour": no such field'),
    ):
        with pytest.raises(BadRowError) as caught:
            one.of_json(Row(1, {**data, **wrong}), 0)
        assert why in str(caught.value)


@given(st.text(max_size=12))
def test_a_cell_is_a_finite_number_or_refused(cell: str) -> None:
    try:
        assert math.isfinite(struct.unpack("<f", struct.pack("<f", number(cell)))[0])
    except BadRowError as error:
        assert str(error)
