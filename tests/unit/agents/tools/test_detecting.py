"""The law over points: boundaries carry the file's own time, whatever is missing between."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.segmentation.series import Series
from agents.tools.detecting import Boundary, Detector, settings_of
from agents.tools.seriesfile import Point

pytestmark = pytest.mark.kernel


def run(detector: Detector, columns: list[list[float]]) -> list[Boundary]:
    points = (
        Point(k, k + 1, f"t{k}", k * 1_000_000, values)
        for k, values in enumerate(zip(*columns, strict=True))
    )
    return [found for point in points for found in detector.take(point)]


def test_modes_stand_alone_and_settings_come_on_top() -> None:
    assert settings_of([], {}) == {}
    assert settings_of(["hmm"], {"warmup": "5"}) == {"cpd": "off", "hmm": "on", "warmup": "5"}
    assert settings_of(["bocpd", "threshold"], {"cpd": "glr"}) == {"cpd": "glr", "threshold": "on"}


@hypothesis_settings(max_examples=15)
@given(st.integers(0, 2**32), st.integers(0, 9000))
@example(6503617, 644)  # placed at the last point before the gap
def test_each_domain_is_a_series_of_its_own(seed: int, gap: int) -> None:
    """A gap longer than anything the detector keeps, in one domain only."""
    r = np.random.default_rng(seed)
    a = r.normal(size=gap + 80) * 0.1
    b = r.normal(size=gap + 80) + 20.0 * (np.arange(gap + 80) >= gap + 40)
    a[gap + 41 :] += 10.0
    b[40 : gap + 40] = math.nan
    found = run(Detector("ab", {}), [a.tolist(), b.tolist()])
    for k, values in enumerate((a, b)):
        alone, series = [], Series({})
        for at, value in enumerate(values):
            alone += series.push(float(value), at * 1_000_000)
        mine = [one for one in found if one.domain == k]
        assert [(one.index, one.at) for one in mine] == [(one.index, one.at) for one in alone]
        assert all(one.time == f"t{one.index}" for one in mine)
    there = [k for k, value in enumerate(b) if not math.isnan(value)]
    first = there.index(gap + 40)  # two points before it may lie in front of the gap
    assert any(one.domain == 1 and one.index in there[first - 2 : first + 3] for one in found)


def test_bad_settings_are_named() -> None:
    for wrong in ({"nonsense": "1"}, {"cpd": "x"}, {"cpd@z": "off"}, {"cpd@": "off"}):
        with pytest.raises(ValueError, match=r"nonsense|cpd"):
            Detector("ab", wrong)
