"""What `soma segment --labels` finds, as a file for the textfile collector of Prometheus' node
exporter: labels are fed to a command, not to a worker, so that is where these figures come from.
"""

from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

GAUGES: Mapping[str, tuple[str, str]] = {  # metric -> the figure of `Score`, what it says
    "soma_segment_f1": ("f1", "Agreement of the boundaries with the labels, 0 to 1"),
    "soma_segment_covering": ("covering", "Share of the points in segments like the labelled ones"),
    "soma_segment_false_boundaries": ("false_boundaries", "Boundaries that nobody labelled"),
    "soma_segment_delay_points": ("delay_median", "Points from a label to its boundary, median"),
}
SHOWN_MAX = 50  # domains


def write_figures(
    path: Path, series: str, domains: Mapping[str, Mapping[str, float | int | None]]
) -> None:
    """Replace the file, in one step. Domains without a figure (no labels) don't appear.

    `domains`: by name, the figures of their scores; of more than SHOWN_MAX the first are written.
    Raises OSError.
    """
    registry = CollectorRegistry()
    scored = {name: one for name, one in domains.items() if "f1" in one}
    for metric, (figure, text) in GAUGES.items():
        gauge = Gauge(metric, text, ["series", "domain"], registry=registry)
        for name in list(scored)[:SHOWN_MAX]:
            value = scored[name][figure]
            if value is not None:
                gauge.labels(series, name).set(value)
    write_to_textfile(str(path), registry)
