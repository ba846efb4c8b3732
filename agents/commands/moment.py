"""Options that are a moment, in UTC unless they say otherwise."""

from datetime import UTC, datetime

import click

from agents.tools.times import text_micros


def moment(_: click.Context, __: click.Parameter, text: str | None) -> datetime | None:
    """The callback of such an option."""
    if text is None:
        return None
    try:
        return datetime.fromtimestamp(text_micros(text) / 1e6, UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(str(error)) from error
