"""The bench of change points, in short: its streams are what they say, and every part runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.bench import change_streams as streams
from ops.bench import segmentation
from ops.bench.change_laws import (
    ADWIN_LAW,
    BINSEG,
    GLR,
    ZERO,
    Changes,
    Floats,
    Law,
    installed,
)

pytestmark = pytest.mark.kernel


def said(text: str) -> None:
    """What a bench says meanwhile isn't tested."""


def dataset(folder: Path) -> Path:
    """Two series in the dataset's format; the second has a gap, a third has two dimensions."""
    r = np.random.default_rng(1)
    step = r.normal(size=300) + 5.0 * (np.arange(300) >= 150)
    gaps: list[float | None] = r.normal(size=200).tolist()
    gaps[50] = None
    for name, raws in (("calm", [gaps]), ("step", [step.tolist()]), ("wide", [[1.0], [2.0]])):
        series = [{"label": f"V{k}", "raw": raw} for k, raw in enumerate(raws)]
        one = {"name": name, "n_obs": len(raws[0]), "n_dim": len(raws), "series": series}
        (folder / f"{name}.json").write_text(json.dumps(one))
    known = {"calm": {"1": []}, "step": {"1": [150], "2": [151]}, "wide": {"1": []}}
    (folder / "annotations.json").write_text(json.dumps(known))
    return folder


def oracle(turn: str) -> Law:
    """Knows the regimes of one seed: what a perfect law would get."""
    values, truth = streams.regimes(turn, 0)
    return Law("oracle", lambda _: [(int(cut), int(cut) + 3) for cut in truth])


def test_streams_are_what_they_say() -> None:
    for turn, (level, spread) in streams.TURNS.items():
        values, truth = streams.regimes(turn, 3)
        edges = [0, *(int(cut) for cut in truth), len(values)]
        lengths = np.diff(edges)
        assert len(truth) == streams.CHANGES
        assert lengths.min() >= 20
        assert lengths.max() <= 200
        volatile = np.concatenate(
            [values[a:b] for a, b in zip(edges[1::2], edges[2::2], strict=True)]
        )
        stable = np.concatenate(
            [values[a:b] for a, b in zip(edges[:-1:2], edges[1::2], strict=True)]
        )
        assert volatile.mean() == pytest.approx(level, abs=0.3)
        assert volatile.std() == pytest.approx(spread, rel=0.1)
        assert (stable.mean(), stable.std()) == pytest.approx((0.0, 1.0), abs=0.1)
    ar = streams.NOISES["AR(.9)"](np.random.default_rng(1), 20_000)
    assert np.corrcoef(ar[1:], ar[:-1])[0, 1] == pytest.approx(0.9, abs=0.02)
    endless = streams.endless_stream(2000, 1)
    assert endless[500:1000].mean() - endless[:500].mean() == pytest.approx(3.0, abs=0.3)


def test_measures_of_laws_whose_answer_is_known() -> None:
    def regular(values: Floats) -> Changes:
        return [(k, k + 4) for k in range(500, len(values), 500)]

    law = Law("regular", regular)
    assert streams.endless(law, 10_000, 1) == {
        "first": 1.0, "last": 1.0, "all": 1.0, "false_per_1000": 0.0
    }  # fmt: skip
    assert streams.false_alarms(law, "t3", 3) == pytest.approx(1.5)  # 500, 1000, 1500 of 2,000
    assert streams.steps(law, 2.0, 1) == {"found": 0, "of": 10, "delay": None}
    late = Law("late", lambda _: [(streams.BEFORE, streams.BEFORE + 9)])
    assert streams.steps(late, 2.0, 1) == {"found": 10, "of": 10, "delay": 9}
    turn = "level + 3 sd"
    assert streams.returning(oracle(turn), turn, 1) == {"found": 29, "false": 0, "delay": 3}
    assert streams.returning(ZERO, turn, 2) == {"found": 0, "false": 0, "delay": None}


def test_annotated_series(tmp_path: Path) -> None:
    found = segmentation.on_data(dataset(tmp_path), said)
    assert set(found["series"]) == {"calm", "step"}
    assert any("wide is left out: 2 dimensions" in note for note in found["notes"])
    step = found["series"]["step"]["laws"]
    assert step["zero"]["f1"] == pytest.approx(2 / 3)  # one of one, and one of two for each
    assert step["glr"]["f1"] == 1.0
    assert step["glr"]["covering"] > 0.95
    assert found["leave_one_out"]["settings"] == 27
    report = segmentation.data_report(found)
    assert [row[0] for row in report.rows] == ["calm", "step", "mean"]
    assert len(report.rows[0]) == len(report.columns)
    json.dumps(found, allow_nan=False)


def test_known_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "ON_STREAMS", (GLR, ZERO, BINSEG))
    found = segmentation.on_streams(1, 10_000, said)
    glr = found["laws"]["glr"]
    assert glr["steps"]["3"]["found"] == 10
    assert glr["steps"]["3"]["delay"] <= 8
    assert glr["endless"]["first"] >= 0.95
    assert glr["endless"]["last"] >= 0.95
    report = segmentation.stream_report(found)
    assert len({len(row) for row in report.rows} | {len(report.columns)}) == 1
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("law", [ADWIN_LAW, BINSEG], ids=lambda law: law.needs)
def test_peers_find_a_large_step(law: Law) -> None:
    pytest.importorskip(law.needs, reason=f"{law.needs} isn't installed")
    values = np.random.default_rng(2).normal(size=600) + 8.0 * (np.arange(600) >= 300)
    values[77] = np.nan
    found = law.find(values)
    assert any(abs(index - 300) <= 40 for index, _ in found)
    assert all(index <= at for index, at in found)
    assert law.find(np.full(3, np.nan)) == []


def test_what_is_not_installed_is_left_out_with_a_note() -> None:
    laws, notes = installed((ZERO, Law("ghost", ZERO.find, needs="no_such_module")))
    assert laws == [ZERO]
    assert notes == ["ghost is left out: no_such_module isn't installed"]


def test_pictures_of_the_series_or_of_an_example(tmp_path: Path) -> None:
    (example,) = segmentation.panels(None)
    assert len(example.boundaries) >= 2
    assert [one.title for one in segmentation.panels(dataset(tmp_path))] == ["calm", "step", "wide"]


def test_the_defaults_reach_what_they_must_on_the_turing_series(tcpd: Path) -> None:
    found: dict[str, Any] = segmentation.on_data(tcpd, said)
    covering, f1 = segmentation.means(found, "glr")
    zero = segmentation.means(found, "zero")
    assert covering >= 0.65
    assert f1 >= 0.73
    assert covering > zero[0]
    assert f1 > zero[1]
