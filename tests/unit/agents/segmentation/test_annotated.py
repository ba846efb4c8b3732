"""glr on the twelve annotated series of the Turing dataset that we may look at, with defaults."""

import json
from pathlib import Path

import numpy as np
import pytest

from agents.segmentation.series import Series
from agents.tools.scores import covering, f1

pytestmark = pytest.mark.kernel

COVERING, F1 = 0.690, 0.750


def test_defaults_stay_above_the_floors(tcpd: Path) -> None:
    annotations = json.loads((tcpd / "annotations.json").read_text())
    figures = []
    for name, labels in sorted(annotations.items()):
        document = json.loads((tcpd / f"{name}.json").read_text())
        raw = document["series"][0]["raw"]
        x = np.array([np.nan if value is None else value for value in raw], np.float64)
        found = [one.index for one in Series().extend(x)]
        figures.append((covering(labels, found, len(x)), f1(labels, found)[0]))
    mean = np.mean(figures, axis=0)
    assert mean[0] >= COVERING and mean[1] >= F1, mean
