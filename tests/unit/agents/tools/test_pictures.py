"""Envelopes hold what was pushed; pictures are drawn of whatever is in them."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tools.envelope import Envelope
from agents.tools.pictures import MARKS_MAX, NoPicturesError, Panel, save_png, terminal

number = st.floats(-1e6, 1e6) | st.just(math.nan)


@given(st.lists(number, max_size=200), st.sampled_from([2, 8, 64]))
def test_a_bucket_holds_the_least_the_greatest_and_the_mean(
    values: list[float], buckets: int
) -> None:
    curve = Envelope(buckets)
    for value in values:
        curve.push(value)
    x, low, high, mean = curve.curves()
    assert len(x) <= buckets
    assert curve.width == 1 or len(x) > buckets // 2
    for k in range(len(x)):
        part = np.array(values[k * curve.width : (k + 1) * curve.width])
        there = part[~np.isnan(part)]
        assert x[k] == k * curve.width + (curve.width - 1) / 2
        if there.size:
            assert (low[k], high[k]) == (there.min(), there.max())
            assert mean[k] == pytest.approx(there.mean(), rel=1e-9, abs=1e-6)
        else:
            assert np.isnan([low[k], high[k], mean[k]]).all()


def panel(values: list[float]) -> Panel:
    one = Panel("a $ title", labels=[len(values) // 2])
    for value in values:
        one.curve.push(value)
    one.mark(1, 2)
    return one


SERIES = [[1.0], [math.nan], [5.0] * 10, [1e300, -1e300, 1e299], [0.0, 1e-300], [*range(5000)]]


@pytest.mark.parametrize("values", SERIES, ids=str)
def test_a_png_is_written_of_any_series(values: list[float], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib isn't installed")
    save_png([panel(values), panel(values)], tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("values", SERIES, ids=str)
def test_a_terminal_shows_any_series(values: list[float]) -> None:
    pytest.importorskip("plotext", reason="plotext isn't installed")
    text = terminal([panel(values)], colour=False)
    assert "found" in text
    assert "\x1b" not in text


def test_boundaries_beyond_what_a_picture_shows_are_said_to_be_left_out() -> None:
    one = Panel("x")
    for k in range(MARKS_MAX + 5):
        one.mark(k, k)
    assert len(one.boundaries) == MARKS_MAX
    assert one.title == f"x (the first {MARKS_MAX} boundaries)"


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("plotext", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(NoPicturesError, match=r"matplotlib: pip install"):
        save_png([panel([1.0])], tmp_path / "p.png")
    with pytest.raises(NoPicturesError, match="pip install plotext"):
        terminal([panel([1.0])], colour=False)
