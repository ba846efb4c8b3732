"""Lines of a byte stream with a limit on their length."""

from collections.abc import Iterator
from typing import BinaryIO

LINE_BYTES_MAX = 1 << 20  # no topic of ours takes a larger record


def lines(stream: BinaryIO, limit: int = LINE_BYTES_MAX) -> Iterator[tuple[int, bytes | None]]:
    """(line number from 1, the line without its end); None stands for a line beyond the limit.

    Memory stays within the limit whatever comes. Empty lines are left out, but counted.
    """
    number = 0
    while piece := stream.readline(limit + 1):
        number += 1
        if len(piece) > limit and not piece.endswith(b"\n"):
            while (rest := stream.readline(limit)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line := piece.strip():
            yield number, line
