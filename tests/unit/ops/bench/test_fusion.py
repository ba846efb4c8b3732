"""The regret table, in short: the order of the laws that the design found, and the plot."""

import xml.etree.ElementTree as ET
from pathlib import Path
from statistics import median

import pytest

from ops.bench import fusion
from ops.bench.lineplot import loglog, svg


def test_the_laws_come_out_as_the_design_found(tmp_path: Path) -> None:
    found = fusion.run(2_000, 3, tmp_path)
    regret = {
        kind: {law: median(values) for law, values in by_law.items()}
        for kind, by_law in found["regret"].items()
    }
    best = regret["one always best"]
    assert best["hedge"] < best["fixed_share"] < 20 < best["softmax"]
    switching = regret["10 switches"]
    assert switching["best sequence"] < switching["fixed_share"] < 0 < switching["softmax"]
    alternating = regret["alternating"]
    assert alternating["hedge"] < alternating["fixed_share"] < 60
    assert alternating["arg-max"] == pytest.approx(1000, abs=1)
    endless = found["endless"]
    assert endless["fixed_share"]["last"] < 1.15 * endless["fixed_share"]["first"]
    assert endless["fixed_share, no leak"]["last"] > 5 * endless["fixed_share"]["last"]
    assert len(fusion.report(found).rows) == 5
    ET.parse(tmp_path / "fusion.svg")


def test_a_plot_has_a_line_and_a_name_for_each() -> None:
    text = svg("a < b", "x", "y", {"one": [(0, 0), (1, 5)], "two": [(0, 1), (1, -7)]})
    root = ET.fromstring(text)
    tags = [element.tag.rpartition("}")[2] for element in root]
    assert tags.count("polyline") == 2
    assert {"one", "two", "a < b"} <= {element.text for element in root}


def test_logarithmic_axes_are_marked_at_powers_of_ten() -> None:
    text = loglog("sizes", "bytes", "records/s", {"one": [(100, 300_000), (20_000, 4_000)]})
    marks = [element.text for element in ET.fromstring(text) if element.tag.endswith("text")]
    assert marks[3:10] == ["1,000", "10,000", "100,000", "1,000,000", "100", "1,000", "10,000"]
    assert marks[10:] == ["100,000", "one"]
