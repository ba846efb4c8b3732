"""Compile the relay's kernels before it takes a shard: others would wait for it meanwhile.

`python -m agents.outbox.warm` compiles them into the cache and ends.
"""

import json
import struct
import time

from agents.engine.warm import sample
from agents.outbox.batch import Preparer
from agents.outbox.kernels import JSONB, SIGNATURE
from topics import codec
from topics.catalogue import CATALOGUE
from topics.schemas import schemas

Cell = bytes | None


def copy_of(rows: list[tuple[Cell, ...]]) -> bytes:
    """A binary COPY of these rows."""
    parts = [SIGNATURE, bytes(8)]
    for row in rows:
        parts.append(struct.pack(">h", len(row)))
        parts += [struct.pack(">i", -1) if cell is None else _cell(cell) for cell in row]
    return b"".join([*parts, struct.pack(">h", -1)])


def _cell(content: bytes) -> bytes:
    return struct.pack(">i", len(content)) + content


def warm() -> None:
    """Prepare a batch of each kind that goes nowhere."""
    topic = next(name for name, one in CATALOGUE.items() if one.of_tenants)
    schema = CATALOGUE[topic].schema or ""
    record = sample(schemas().newest(schema)) | {"ts": time.time_ns() // 1000}
    text = json.dumps(codec.to_json(schema, record)).encode()
    ids = [struct.pack(">q", k) for k in range(3)]
    head = [(one, topic.encode(), b"warm", b"k", one, bytes(8)) for one in ids]
    jsonb = bytes([JSONB])
    done = Preparer({topic: 2}, "", "/warm").prepare(
        copy_of(
            [
                (*head[0], codec.encode(schema, record), None, jsonb + b'{"a": "b"}'),
                (*head[1], None, jsonb + text, None),
                (*head[2], b"\0", None, None),
            ]
        ),
        3,
    )
    if done.sent != [0, 1] or list(done.refused) != [2]:
        raise RuntimeError(f"the relay's warm-up gave {done}")


if __name__ == "__main__":
    warm()
