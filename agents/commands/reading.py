"""How a file is written: the same options for every command that reads one."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from agents.tools.csvform import Told

F = TypeVar("F", bound=Callable[..., Any])
TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n"
DELIMITERS = {"tab": "\t", "\\t": "\t", "space": " "}


def names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(one.strip() for one in value.split(",") if one.strip()) if value else ()


def delimiter(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """One character; 'tab' and 'space' are words for it."""
    if value is None:
        return None
    found = DELIMITERS.get(value, value)
    if len(found) != 1 or found in '\r\n"#':
        raise click.BadParameter(f"{value!r} is not one character (or 'tab')", ctx, param)
    return found


def encoding(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A text's encoding whose plain letters are ASCII's, so that lines end where bytes say so."""
    try:
        plain = TEXT.decode(value) == TEXT.decode("ascii")
    except LookupError:
        raise click.BadParameter(f"there is no encoding {value!r}", ctx, param) from None
    except UnicodeError:
        plain = False
    if not plain:
        why = f"{value} isn't read here: convert the file (iconv -f {value} -t UTF-8)"
        raise click.BadParameter(why, ctx, param)
    return value


OPTIONS = (
    click.option(
        "--delimiter",
        callback=delimiter,
        metavar="CHARACTER",
        help="Of CSV; also 'tab', 'space' [default: , ; | or tab, by all rows].",
    ),
    click.option(
        "--decimal",
        type=click.Choice([".", ","]),
        help="The decimal mark of CSV [default: the one that the numbers have].",
    ),
    click.option(
        "--header/--no-header",
        default=None,
        help="Whether the first row of CSV is names [default: if it is no row of numbers].",
    ),
    click.option("--names", callback=names, help="Names of the columns of a CSV without a header."),
    click.option(
        "--skip-lines", type=click.IntRange(0), default=0, help="Lines to pass over at the start."
    ),
    click.option(
        "--encoding",
        callback=encoding,
        default="utf-8",
        show_default=True,
        help="Of the text, such as cp1252; UTF-16 and UTF-32 aren't read (iconv converts them).",
    ),
    click.option(
        "--day-first/--month-first",
        default=None,
        help="Of dates such as 03/04/2026 [default: as one that has no choice].",
    ),
    click.option(
        "--final", is_flag=True, help="Take a last line without its end: nothing more will come."
    ),
)
OF_CSV = ("delimiter", "decimal", "header", "names")
NAMES = (*OF_CSV, "skip_lines", "encoding", "day_first", "final")


def reading_options(command: F) -> F:
    """All of these options."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def told(given: dict[str, Any]) -> Told:
    """What was said of the file."""
    return Told(**{name: given[name] for name in NAMES})
