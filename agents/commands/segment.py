"""`soma segment`: the segmentation law over a file or standard input, without any server."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from agents.commands.kernels import compile_ahead
from agents.commands.reading import reading_options, told
from agents.commands.segmenting import Job, figures_of, tell, write_metrics, write_pictures
from agents.tools.output import Ending, say, until_interrupted

if TYPE_CHECKING:
    from agents.tools.detecting import Boundary
    from agents.tools.labels import Moments
    from agents.tools.scores import Labels
    from agents.tools.seriesfile import FileLayout, Series

STANDARD_INPUT = "-"
PROCESSOR = "segmentation"  # whose law it is
PROGRESS_S = 0.5  # between two lines of progress
CHECK_POINTS = 4096  # points between two looks at the clock
CHANGES_MAX = 1_000_000  # of a domain, for scores


def setting_of(ctx: click.Context, param: click.Parameter, values: Any) -> dict[str, str]:
    """NAME=VALUE pairs; BadParameter names what isn't one."""
    found = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{text!r} isn't NAME=VALUE", ctx, param)
        found[name.strip()] = value.strip()
    return found


def period_of(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Points of a period; 0: none is taken out, None: it is chosen by the data."""
    from agents.tools.season import LEAST, MOST

    if text is None or text == "auto":
        return 0 if text is None else None
    if text.isascii() and text.isdigit() and LEAST <= int(text[:9]) <= MOST:
        return int(text)
    raise click.BadParameter(
        f"{text[:40]!r} is neither auto nor a number of points from {LEAST} to {MOST:,}", ctx, param
    )


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
    help="A setting of segmentation; NAME@DOMAIN=VALUE for one domain.",
)
@click.option(
    "--period",
    callback=period_of,
    metavar="N|auto",
    help="Take out what comes back every N points (a day's load): a steady cycle alone draws "
    "no more than its noise does, white noise about one in 150,000 points. The first 4 cycles are "
    "learned from and looked at late; auto: by the data, from the first week (2,048 points without "
    "times).",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Known changes: score what is found. One index or time a line (none: nothing changes), or "
    "the Turing dataset's JSON.",
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
    form: Any, given: Mapping[str, str], period: int | None,
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
      soma segment load.csv --period auto
      soma segment FILE --json --summary
    """
    from agents.tools.detecting import settings_of
    from agents.tools.seriesfile import FileLayout

    if metrics is not None and labels is None:
        raise click.UsageError("--metrics writes scores: it needs --labels")
    layout = FileLayout(form, time_column, domains, time_unit, told(reading))
    with ExitStack() as stack:
        stream = _input(file, stack)
        job = _job(stream, file, layout, settings_of(modes, given), period, labels)
        job.watched = job.watched and not quiet
        compile_ahead(PROCESSOR, quiet=quiet)
        with until_interrupted() as ending:
            _run(job)
        if _broken_off(job, ending, file, any((metrics, plot, show))):
            return
        _finish(job)
        figures = figures_of(job, margin)
        if not quiet:
            tell(job, figures)
        if metrics is not None:
            write_metrics(job, figures, metrics)
        write_pictures(job, plot, show)
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
    stream: BinaryIO, file: str, layout: "FileLayout", settings: Mapping[str, str],
    period: int | None, labels: Path | None,
) -> Job:  # fmt: skip
    from agents.tools.clock import Clock
    from agents.tools.detecting import Detector
    from agents.tools.pictures import Panel
    from agents.tools.seriesfile import open_series
    from agents.tools.source import TableError

    name = "standard input" if file == STANDARD_INPUT else file
    try:
        series = open_series(stream, layout)
    except TableError as error:
        raise click.ClickException(f"{name}: {error}") from error
    try:
        detector = Detector(series.domains, settings, period, bool(series.time_column))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    known, moments = _labels(labels, file, series)
    size = 0 if file == STANDARD_INPUT else Path(file).stat().st_size
    panels = [Panel(one) for one in series.domains]
    return Job(
        name, series, detector, known, moments, Clock(), panels, size, sys.stderr.isatty()
    )  # fmt: skip


def _labels(
    path: Path | None, file: str, series: "Series"
) -> tuple[Mapping[str, "Labels"], "Moments"]:
    """Known changes by domain, as indices; and as times, which become indices as points come."""
    from agents.tools.labels import Moments, read_labels
    from agents.tools.source import TableError

    if path is None:
        return {}, Moments()
    names = [one for one in (series.name, Path(file).stem) if one]
    try:
        known, moments = read_labels(path, names, series.domains, series.unit, series.dates)
    except TableError as error:
        raise click.ClickException(f"{path}: {error}") from error
    except OSError as error:
        raise click.ClickException(f"{path} can't be read: {error.strerror}") from error
    if moments.left and not series.time_column:
        raise click.ClickException(f"{path} holds times, and {file} none (--time-column?)")
    return known, moments


def _run(job: Job) -> None:
    """Print every boundary as it is declared."""
    from agents.tools.source import TableError

    progress = _Progress(job)
    try:
        for point in job.series:
            if not point.index:
                _begin(job)
            job.moments.see(point.index, point.ts)
            for found in job.detector.take(point):
                progress.clear()
                _found(job, found)
            job.clock.push(point.ts)
            for panel, value in zip(job.panels, point.values, strict=True):
                panel.curve.push(value)
            if point.index % CHECK_POINTS == 0:
                progress.show()
    except TableError as error:
        progress.clear()
        raise click.ClickException(f"{job.name}, {error}") from error
    finally:
        progress.clear()


def _broken_off(job: Job, ending: Ending, file: str, drawn: bool) -> bool:
    """Whether nothing is to follow: figures of a part look as those of the whole do.

    A file that was interrupted ends with the signal's status; who reads another's output has no
    end but that, and gets the figures so far. `drawn`: scores or pictures were asked for.
    """
    at = f"line {job.series.seen.line:,}" if job.series.seen.line else ""
    at = at or f"point {job.series.seen.points:,}"
    if ending.interrupt is not None:
        follows = file == STANDARD_INPUT
        say(f"interrupted at {at}" + (": what follows is of what came until then" * follows))
        ending.broken_off(not follows)
    if ending.unread and drawn:
        raise click.ClickException(f"nobody reads the output since {at}: nothing more was written")
    return ending.unread


def _begin(job: Job) -> None:
    """The labels that are read as the series' times are, now that these are known."""
    from agents.tools.source import TableError

    try:
        job.moments.begin(job.series.compact)
    except TableError as error:
        raise click.ClickException(f"the labels: {error}") from error


def _finish(job: Job) -> None:
    """The end: what waited for its season, and labels that lie behind it."""
    points = job.series.seen.points
    for found in job.detector.finish(points - 1):
        _found(job, found)
    if job.moments.left and job.series.seen.words:
        raise click.ClickException("the labels are times, and those of the series aren't")
    job.moments.finish(points)


def _found(job: Job, found: "Boundary") -> None:
    names = job.series.domains
    domain = names[found.domain] if len(names) > 1 else None
    print(json.dumps(found.record(domain)), flush=True)
    _note(job, found)


def _note(job: Job, found: "Boundary") -> None:
    job.counts[found.domain] += 1
    if job.labels:
        if job.counts[found.domain] > CHANGES_MAX:
            raise click.ClickException(
                f"more than {CHANGES_MAX:,} boundaries of {job.series.domains[found.domain]}: "
                "they can't be scored. Leave --labels out, or ask for fewer (--set glr_bar=10)."
            )
        job.changes[found.domain].append((found.index, found.at))
    job.panels[found.domain].mark(found.index, found.at)


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
