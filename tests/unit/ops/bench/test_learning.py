"""`soma bench learning`, short: the loop closes, figures and table are there."""

from pathlib import Path

import pytest

from agents.tools import series
from ops.bench import learning


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_loop_closes_and_the_table_says_what_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [row for row in series.recorded() if row.second < 20]
    monkeypatch.setattr(series, "recorded", lambda: few)
    found = learning.run(seeds=2, seconds=20, out=tmp_path)
    assert (tmp_path / "learning.svg").read_text().startswith("<svg")
    for kind in (*learning.KINDS, learning.RECORDED):
        loops = found["streams"][kind]
        assert set(loops) == set(learning.LOOPS) and loops[learning.OPEN]["changes"] == 0
        assert loops[learning.CLOSED]["changes"] > 0
        assert loops[learning.CLOSED]["regret"] != loops[learning.OPEN]["regret"]
    report = learning.report(found)
    assert len(report.rows) == 9 and "Wanted: closed lower than open for 2 of 2" in report.notes[0]


def test_regret_is_what_was_paid_above_the_best_fixed_domain() -> None:
    told = learning.Told()
    told.paid["t"] = [0.5, 0.5]
    told.losses["t"] = [{"a": 0.25, "b": 1.0}, {"a": 0.25, "b": 0.0, "late": 0.25}]
    assert learning.regrets(told) == {"t": 0.5}
