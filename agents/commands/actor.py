"""The option `--actor`: whom the audit names."""

import getpass

import click


def user() -> str:
    """Who is at the keyboard, as the system knows him."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's nameless user
        return "unknown"


actor = click.option("--actor", default=user, help="Whom the audit names. [default: you]")
