import io
from pathlib import Path

import pytest

from agents.tools import series
from agents.tools.machine import DIM, DOMAINS, TENANTS, Observation


def test_the_recorded_series_is_whole() -> None:
    rows = series.recorded()
    groups = list(series.steps(rows))
    assert len(groups) == 600
    assert [second for second, _ in groups] == sorted(second for second, _ in groups)
    for _, group in groups:
        assert [(row.tenant, row.domain) for row in group] == [
            (tenant, domain) for tenant in TENANTS for domain in DOMAINS
        ]
        assert all(len(row.vector) == DIM for row in group)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    seen = [Observation("cpu", "state", 5, (0.25, 1e-7, -3.5, 0.0))]
    path = tmp_path / "some.csv"
    assert series.write(path, [(0, seen), (1.5, seen)]) == 2
    with path.open(newline="") as file:
        rows = series.read(file)
    assert [(row.second, row.vector) for row in rows] == [
        (0.0, (0.25, 1e-7, -3.5, 0.0)),
        (1.5, (0.25, 1e-7, -3.5, 0.0)),
    ]


@pytest.mark.parametrize("line", ["", "x,cpu,state,1", "1", "1,cpu,state,one"])
def test_a_line_that_is_none_is_named(line: str) -> None:
    text = f"second,tenant,domain,v0\n0,cpu,state,1\n{line}\n1,cpu,state,2\n"
    with pytest.raises(ValueError, match="line 3 isn't"):
        series.read(io.StringIO(text))


def test_steps_of_nothing() -> None:
    assert list(series.steps([])) == []
