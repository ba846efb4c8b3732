"""`soma segment`: the segmentation law over a file or standard input, without any server."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from agents.commands.reading import reading_options, told
from agents.tools.output import until_interrupted

if TYPE_CHECKING:
    from agents.tools.detecting import Boundary
    from agents.tools.pictures import Panel
    from agents.tools.scores import Labels
    from agents.tools.seriesfile import Layout, Series

STANDARD_INPUT = "-"
PROGRESS_S = 0.5  # between two lines of progress
CHECK_POINTS = 4096  # points between two looks at the clock
CHANGES_MAX = 1_000_000  # of a domain, for scores


@dataclass
class Job:
    """What one run does, and what it has found."""

    name: str
    series: "Series"
    settings: Mapping[str, str]
    labels: Mapping[str, "Labels"]
    panels: Sequence["Panel"]  # one per domain when a picture is wanted
    size: int  # bytes, 0 when unknown
    watched: bool  # progress on standard error
    counts: list[int] = field(default_factory=list)  # boundaries per domain
    changes: list[list[tuple[int, int]]] = field(default_factory=list)


def setting_of(ctx: click.Context, param: click.Parameter, values: Any) -> dict[str, str]:
    """NAME=VALUE pairs; BadParameter names what isn't one."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{text!r} isn't NAME=VALUE", ctx, param)
        found[name.strip()] = value.strip()
    return found


def picture(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """A file that a picture can be written into, as far as that is known before it is drawn."""
    from agents.tools import pictures

    if path is None:
        return None
    if path.suffix.lower() != ".png":
        raise click.BadParameter(
            f"{path} doesn't end in .png, and nothing else is written", ctx, param
        )
    try:
        pictures.check_png(path)
    except pictures.NoPicturesError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from error
    return path


@click.command()
@click.argument("file", default=STANDARD_INPUT)
@click.option(
    "--mode",
    "modes",
    multiple=True,
    type=click.Choice(["glr", "bocpd", "hmm", "threshold"]),
    help="What looks for changes (default: glr); several work side by side.",
)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    metavar="COLUMN",
    help="A column of values by name or number (default: all); names the only one.",
)
@click.option("--time-column", default="", metavar="COLUMN", help="By name or number, or 'none'.")
@click.option(
    "--time-unit",
    type=click.Choice(["auto", "s", "ms", "us", "ns"]),
    default="auto",
    show_default=True,
    help="Of times that are numbers; auto: in which the first lies in 2000 to 2100, else s.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["auto", "csv", "jsonl", "tcpd"]),
    default="auto",
    show_default=True,
)
@reading_options
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    callback=setting_of,
    help="A setting of the segmentation room; NAME@DOMAIN=VALUE for one domain.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Known changes: score what is found. One index a line, or the Turing dataset's JSON.",
)
@click.option("--margin", type=click.IntRange(0), default=5, show_default=True, help="Of F1.")
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.prom",
    help="With --labels: write the scores for Prometheus (node exporter's textfile collector).",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=picture,
    metavar="FILE.png",
    help="Write a PNG.",
)
@click.option("--show", is_flag=True, help="Plot in the terminal, at the end.")
@click.option("--summary", is_flag=True, help="Print the figures as a last JSON object.")
@click.option("--json", "as_json", is_flag=True, help="The output is JSON in any case.")
@click.option("--quiet", is_flag=True, help="Nothing on standard error but errors.")
def segment(
    file: str, modes: Sequence[str], domains: tuple[str, ...], time_column: str, time_unit: str,
    form: Any, given: Mapping[str, str],
    labels: Path | None, margin: int, metrics: Path | None, plot: Path | None, show: bool,
    summary: bool, as_json: bool, quiet: bool, **reading: Any,
) -> None:  # fmt: skip
    """Find the changes of a series: one pass, no look-ahead, no server.

    FILE is CSV (time,value… or one value a line), JSON lines, or JSON of the Turing Change Point
    Dataset; '-' is standard input. Several columns are several domains. Each change is printed as
    soon as it is declared: `index` is the first point after it (0-based), `at` the point that
    showed it.

    \b
    Examples:
      soma segment temperatures.csv --plot changes.png
      tail -f load.txt | soma segment -
      soma segment sensors.csv --domain pressure --mode bocpd --set bocpd_hazard=500
      soma segment well_log.json --labels annotations.json --show
      soma segment FILE --json --summary
    """
    from agents.tools.seriesfile import Layout

    if metrics is not None and labels is None:
        raise click.UsageError("--metrics writes scores: it needs --labels")
    layout = Layout(form, time_column, domains, time_unit, told(reading))
    with ExitStack() as stack:
        job = _job(_input(file, stack), file, layout, modes, given, labels, bool(plot or show))
        job.watched = job.watched and not quiet
        with until_interrupted():
            _run(job)
        figures = _figures(job, margin)
        if not quiet:
            _tell(job, figures)
        if metrics is not None:
            _metrics(job, figures, metrics)
        _pictures(job, plot, show)
        if summary:
            click.echo(json.dumps({"summary": figures}))


def _input(file: str, stack: ExitStack) -> BinaryIO:
    if file != STANDARD_INPUT:
        try:
            return stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise click.ClickException(f"{file} can't be read: {error.strerror}") from error
    if sys.stdin.isatty():
        raise click.UsageError("give a FILE, or pipe numbers in: … | soma segment -")
    return click.get_binary_stream("stdin")


def _job(
    stream: BinaryIO, file: str, layout: "Layout", modes: Sequence[str],
    given: Mapping[str, str], labels: Path | None, drawn: bool,
) -> Job:  # fmt: skip
    from agents.tools.detecting import settings_of
    from agents.tools.labels import read_labels, together
    from agents.tools.pictures import Panel
    from agents.tools.seriesfile import open_series
    from agents.tools.source import TableError

    name = "standard input" if file == STANDARD_INPUT else file
    try:
        series = open_series(stream, layout)
    except TableError as error:
        raise click.ClickException(f"{name}: {error}") from error
    known: dict[str, Labels] = {}
    if labels is not None:
        names = [one for one in (series.name, Path(file).stem) if one]
        try:
            known = read_labels(labels, names, series.domains)
        except TableError as error:
            raise click.ClickException(f"{labels}: {error}") from error
        except OSError as error:
            raise click.ClickException(f"{labels} can't be read: {error.strerror}") from error
    panels = [Panel(one, labels=together(known.get(one, {}))) for one in series.domains]
    size = 0 if file == STANDARD_INPUT else Path(file).stat().st_size
    return Job(
        name, series, settings_of(modes, given), known, panels if drawn else [], size,
        sys.stderr.isatty(),
    )  # fmt: skip


def _run(job: Job) -> None:
    """Print every boundary as it is declared."""
    from agents.tools.detecting import Detector
    from agents.tools.source import TableError

    names = job.series.domains
    several = len(names) > 1
    job.counts, job.changes = [0] * len(names), [[] for _ in names]
    try:
        detector = Detector(names, job.settings)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    progress = _Progress(job)
    try:
        for point in job.series:
            for found in detector.take(point):
                progress.clear()
                print(
                    json.dumps(found.record(names[found.domain] if several else None)), flush=True
                )
                _note(job, found)
            for panel, value in zip(job.panels, point.values, strict=False):
                panel.curve.push(value)
            if point.index % CHECK_POINTS == 0:
                progress.show()
    except TableError as error:
        progress.clear()
        raise click.ClickException(f"{job.name}, {error}") from error
    finally:
        progress.clear()


def _note(job: Job, found: "Boundary") -> None:
    job.counts[found.domain] += 1
    if job.labels:
        if job.counts[found.domain] > CHANGES_MAX:
            raise click.ClickException(
                f"more than {CHANGES_MAX:,} boundaries of {job.series.domains[found.domain]}: "
                "they can't be scored. Leave --labels out, or ask for fewer (--set glr_bar=10)."
            )
        job.changes[found.domain].append((found.index, found.at))
    if job.panels:
        job.panels[found.domain].mark(found.index, found.at)


def _figures(job: Job, margin: int) -> dict[str, Any]:
    """What is known at the end, as JSON."""
    from agents.tools.scores import score

    seen = job.series.seen
    figures: dict[str, dict[str, float | int | None]] = {}
    for k, domain in enumerate(job.series.domains):
        figures[domain] = {"boundaries": job.counts[k], "missing": seen.missing[k]}
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


def _tell(job: Job, figures: Mapping[str, Any]) -> None:
    """The end in words, on standard error; every oddity is named."""
    from agents.tools.source import UNENDED

    seen, domains = job.series.seen, figures["domains"]
    total = sum(one["boundaries"] for one in domains.values())
    text = (
        f"{job.name}: {seen.points:,} point{'s' * (seen.points != 1)} of {', '.join(domains)}, "
        f"{total:,} boundar{'y' if total == 1 else 'ies'}"
    )
    if job.series.time_column:
        text += f"; time is {job.series.time_column!r}"
        text += f" (in {job.series.unit})" if job.series.unit and not seen.words else ""
    click.echo(text, err=True)
    if seen.words:
        click.echo("times are neither numbers nor ISO 8601: the law counts points", err=True)
    for count, what in (
        (sum(seen.missing), "missing values (the law passes over them)"),
        (figures["empty_lines"], "empty lines passed over"),
        (figures["comments"], "comments passed over"),
        (seen.backwards, "points before the time of the point before them"),
    ):
        if count:
            click.echo(f"{count:,} {what}", err=True)
    if figures["waiting_line"]:
        click.echo(f"line {figures['waiting_line']}: {UNENDED}", err=True)
    for domain, one in domains.items():
        if "f1" in one:
            delay = one["delay_median"]
            click.echo(
                f"{domain}: F1 {one['f1']:.3f} (precision {one['precision']:.3f}, recall "
                f"{one['recall']:.3f}), covering {one['covering']:.3f}, "
                f"{one['false_boundaries']} false boundaries, median delay "
                f"{'-' if delay is None else f'{delay:g}'}",
                err=True,
            )


def _metrics(job: Job, figures: Mapping[str, Any], path: Path) -> None:
    from agents.tools.textfile import write_figures

    try:
        write_figures(path, job.series.name or Path(job.name).stem, figures["domains"])
    except OSError as error:
        raise click.ClickException(f"{path} can't be written: {error.strerror}") from error


def _pictures(job: Job, plot: Path | None, show: bool) -> None:
    from agents.tools import pictures

    try:
        if plot is not None:
            pictures.save_png(job.panels, plot)
        if show:
            click.echo(pictures.terminal(job.panels, sys.stderr.isatty()), err=True)
    except pictures.NoPicturesError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{plot} can't be written: {error.strerror}") from error


class _Progress:
    """One line on standard error that is rewritten, for people who wait."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._start = self._last = time.monotonic()
        self._shown = False

    def show(self) -> None:
        now = time.monotonic()
        if not self._job.watched or now - self._last < PROGRESS_S:
            return
        self._last, self._shown = now, True
        points, read = self._job.series.seen.points, self._job.series.bytes
        share = f"{100 * read / self._job.size:.0f} % · " if self._job.size else ""
        rate = points / max(now - self._start, 1e-9)
        sys.stderr.write(f"\r\x1b[K{share}{points:,} points · {rate:,.0f}/s")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False
