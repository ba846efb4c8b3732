"""The headers that a user gave an event, framed for its record."""

import json
from typing import Any

import numpy as np

from agents.engine.records import framed
from agents.outbox import OURS
from agents.outbox.kernels import HEADERS, JSONB
from agents.outbox.rows import Bytes, Ints, Rows
from topics.columns import Buffer


def framed_headers(text: bytes) -> tuple[bytes, int]:
    """A JSON object as framed headers, and how many: text as it is, else as JSON, null as null.

    Names that the relay or the engine writes are left out. Halves of surrogate pairs become "?".
    """
    given: dict[str, Any] = json.loads(text)
    parts: list[bytes] = []
    for name, value in given.items():
        if name.lower() in OURS:
            continue
        shown = value if isinstance(value, str) else json.dumps(value)
        content = None if value is None else shown.encode("utf-8", "replace")
        parts.append(framed(name.encode("utf-8", "replace")) + framed(content))
    return b"".join(parts), len(parts)


def extra(rows: Rows) -> tuple[Bytes, Ints]:
    """(buffer, spans): row r has spans[2, r] headers at spans[0, r], spans[1, r] bytes long."""
    out = Buffer()
    spans = np.zeros((3, rows.n), np.int64)
    for k in np.flatnonzero(rows.length[HEADERS, : rows.n] > 0):
        row = int(k)
        text = rows.text(HEADERS, row)
        if text[:1] != bytes([JSONB]):
            continue
        content, count = framed_headers(text[1:])
        spans[:, row] = out.append(content), len(content), count
    return out.data[: out.used], spans
