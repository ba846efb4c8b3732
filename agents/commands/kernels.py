"""Kernels before a command's first one: compiled by processes of their own, with a word."""

from agents.commands.warm import compile_all
from agents.tools.output import say


def compile_ahead(*names: str, quiet: bool = False) -> None:
    """Compile the kernels of these processors or services that nobody has compiled here yet.

    Else the first record compiles them, in this process alone, for minutes and without a word.
    `quiet`: without one here too. ClickException if it fails.
    """
    from agents.engine.compiling import misplaced, missing, units  # numba: when used
    from topics import compiled

    tell = (lambda _: None) if quiet else say
    if said := misplaced():
        tell(f"{said}; they are kept in {compiled.config.CACHE_DIR or 'memory alone'}")
    todo = missing(units(names))
    if not todo:
        return
    tell(f"compiling the kernels of {', '.join(todo)}: the first start after an update does")
    if compiled.config.CACHE_DIR:  # else another process' would be of no use to this one
        compile_all(todo, quiet=quiet)
