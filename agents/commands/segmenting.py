"""The end of `soma segment`: figures, words, pictures."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agents.tools.output import counted

if TYPE_CHECKING:
    from agents.tools.clock import Clock
    from agents.tools.detecting import Detector
    from agents.tools.labels import Moments
    from agents.tools.pictures import Panel
    from agents.tools.scores import Labels
    from agents.tools.seriesfile import Series


@dataclass
class Job:
    """What one run does, and what it has found."""

    name: str
    series: "Series"
    detector: "Detector"
    labels: Mapping[str, "Labels"]
    moments: "Moments"  # labels that are times
    clock: "Clock"
    panels: Sequence["Panel"]  # one per domain
    size: int  # bytes, 0 when unknown
    watched: bool  # progress on standard error
    counts: list[int] = field(init=False)  # boundaries per domain
    changes: list[list[tuple[int, int]]] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = [0 for _ in self.series.domains]
        self.changes = [[] for _ in self.series.domains]


def figures_of(job: Job, margin: int) -> dict[str, Any]:
    """What is known at the end, as JSON."""
    from agents.tools.scores import score

    seen = job.series.seen
    figures: dict[str, dict[str, float | int | None]] = {}
    for k, domain in enumerate(job.series.domains):
        figures[domain] = {"boundaries": job.counts[k], "missing": seen.missing[k]}
        if job.detector.seasons:
            figures[domain]["period"] = job.detector.seasons[k].period
        if domain in job.labels and seen.points:
            found = score(job.labels[domain], job.changes[k], seen.points, margin)
            figures[domain] |= found.record()
    return {
        "points": seen.points,
        "empty_lines": job.series.blank,
        "comments": job.series.comments,
        "waiting_line": job.series.waiting or None,
        "backwards": seen.backwards,
        "domains": figures,
    }


def tell(job: Job, figures: Mapping[str, Any]) -> None:
    """The end in words, on standard error; every oddity is named."""
    from agents.tools.labels import together
    from agents.tools.source import UNENDED

    seen, domains = job.series.seen, figures["domains"]
    total = sum(one["boundaries"] for one in domains.values())
    text = (
        f"{job.name}: {counted(seen.points, 'point')} of {', '.join(domains)}, "
        f"{counted(total, 'boundary', 'boundaries')}"
    )
    if job.series.time_column:
        text += f"; time is {job.series.time_column!r}"
        text += f" (in {job.series.unit})" if job.series.unit and not seen.words else ""
    click.echo(text, err=True)
    late = max((sum(k >= seen.points for k in together(x)) for x in job.labels.values()), default=0)
    if seen.words:
        click.echo("times are neither numbers nor ISO 8601: the law counts points", err=True)
    for count, one, what in (
        (sum(seen.missing), "missing value", "passed over by the law"),
        (figures["empty_lines"], "empty line", "passed over"),
        (figures["comments"], "comment", "passed over"),
        (seen.backwards, "point", "earlier than the one before"),
        (job.moments.early, "label", "before the first point (left out)"),
        (late, "label", "behind the last point (counted as missed)"),
    ):
        if count:
            click.echo(f"{counted(count, one)} {what}", err=True)
    if figures["waiting_line"]:
        click.echo(f"line {figures['waiting_line']}: {UNENDED}", err=True)
    for domain, one in domains.items():
        if "period" in one:
            what = f"a period of {one['period']} points is taken out" if one["period"] else ""
            click.echo(f"{domain}: {what or 'no period is taken out: too few cycles'}", err=True)
        if "f1" in one:
            delay, false = one["delay_median"], one["false_boundaries"]
            click.echo(
                f"{domain}: F1 {one['f1']:.3f} (precision {one['precision']:.3f}, recall "
                f"{one['recall']:.3f}), covering {one['covering']:.3f}, "
                f"{counted(false, 'false boundary', 'false boundaries')}, median delay "
                f"{'-' if delay is None else f'{delay:g}'}",
                err=True,
            )


def write_metrics(job: Job, figures: Mapping[str, Any], path: Path) -> None:
    """Write the scores for Prometheus; ClickException when that can't be."""
    from agents.tools.textfile import write_figures

    try:
        write_figures(path, job.series.name or Path(job.name).stem, figures["domains"])
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from error


def write_pictures(job: Job, plot: Path | None, show: bool) -> None:
    """Draw what is wanted; ClickException when that can't be."""
    from agents.tools import pictures
    from agents.tools.labels import together

    for panel, domain in zip(job.panels, job.series.domains, strict=True):
        panel.labels = together(job.labels.get(domain, {}))
    try:
        if plot is not None:
            pictures.save_png(job.panels, plot, job.clock.axis(job.series))
        if show:
            click.echo(pictures.terminal(job.panels, sys.stderr.isatty()), err=True)
    except pictures.NoPicturesError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{plot} can't be written: {error.strerror}") from error
