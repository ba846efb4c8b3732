"""Something that goes on in a thread while a proof does something else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(
    name: str, work: Callable[[threading.Event], None], end_s: float = 60.0
) -> Iterator[None]:
    """Do it while the block runs; the event tells it to end. RuntimeError where it doesn't."""
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(stop,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(end_s)
        if thread.is_alive():
            raise RuntimeError(f"{name} didn't end within {end_s:g} s")
