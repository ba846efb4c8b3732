"""Compile every kernel before the worker says it is ready: the first real batch must not wait."""

import time
from collections.abc import Sequence
from itertools import count, islice
from typing import Any

import numpy as np

from agents.engine.batches import RawBatch, raw_batch
from agents.engine.builder import RawBuilder
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Batch, Context, Control, Fold, Output, Place, StateRows
from agents.engine.records import frame_one
from agents.engine.recovery import Loader
from agents.engine.work import Worker
from agents.engine.workspace import Workspace
from agents.settings import Settings
from topics import codec
from topics.partition import partition_of
from topics.schemas import schemas

TENANTS = 600  # more than any table begins with: growing has kernels of its own


class Unmoved:
    """A fold that does nothing: a law in Python has no kernels, and no use for made-up records."""

    names = np.zeros(1, np.uint8)

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> None:
        """Nothing."""

    def control(self, control: Control) -> str | None:
        return None

    def changed(self, rows: StateRows) -> None:
        """Nothing."""

    def load(self, *_: Any) -> None:
        """Nothing."""

    def rows_all(self, rows: StateRows) -> None:
        """Nothing."""

    def deadline(self) -> int | None:
        return None

    def tenants(self) -> int:
        return 0


def sample(schema: dict[str, Any]) -> dict[str, Any]:
    """A record of a schema with the plainest values: it need not be foldable, only decodable."""
    plain: dict[str, Any] = {
        "string": "warm",
        "bytes": bytes(16),
        "boolean": False,
        "int": 0,
        "long": 0,
        "float": 0.5,
        "double": 0.5,
    }
    record: dict[str, Any] = {}
    for field in schema["fields"]:
        kind = field["type"]
        kind = kind["type"] if isinstance(kind, dict) else kind
        if isinstance(kind, list):
            record[field["name"]] = None
        elif kind in ("map", "array"):
            record[field["name"]] = {} if kind == "map" else []
        elif kind == "enum":
            record[field["name"]] = field["type"]["symbols"][0]
        else:
            record[field["name"]] = plain[kind]
    return record


def warm(plan: Plan, settings: Settings) -> None:
    """Run records of every kind through a fold that is thrown away, and load its rows."""
    now = time.time_ns() // 1000
    reads = plan.kinds[0].reads
    record = sample(schemas().newest(plan.schema)) | ({reads.ts: now} if reads.ts else {})
    value = codec.encode(plan.schema, record)
    key = record[reads.tenant].encode()
    partition = partition_of(key, plan.partitions)
    parts: list[tuple[bytes | None, bytes]] = [
        (key, value),
        (key, value),
        (None, value),
        (key, b"\0"),
        (key, value),
    ]
    place = Place("0" * 8, partition)
    context = plan.context(place, defaults_of(plan.processor, settings))
    fold: Fold = plan.processor.make(context) if plan.processor.in_loop else Unmoved()
    space = Workspace(plan)
    outcome = Worker(plan, place, fold).run(space, [_batch(parts)], 0, lambda _: b"")
    if (
        outcome.results["folded"] != 3
        or outcome.results["misrouted"] + outcome.results["dead"] + outcome.results["left"] != 2
    ):
        raise RuntimeError(f"{plan.processor.name}: the warm-up gave {outcome}")
    _warm_load(plan, context, space)
    names = (f"warm-{k}".encode() for k in count())
    ours = islice(
        (one for one in names if partition_of(one, plan.partitions) == partition), TENANTS
    )
    many = [(k, codec.encode(plan.schema, record | {reads.tenant: k.decode()})) for k in ours]
    Worker(plan, place, fold).run(Workspace(plan), [_batch(many)], len(parts), lambda _: b"")


def _batch(parts: Sequence[tuple[bytes | None, bytes]]) -> RawBatch:
    """A fetched batch of these keys and values."""
    framed = b"".join(frame_one(i, k, v, [("h", b"v")]) for i, (k, v) in enumerate(parts))
    return raw_batch(RawBuilder(framed, len(parts))._build())


def _warm_load(plan: Plan, context: Context, space: Workspace) -> None:
    rows = space.rows
    keys = [b"warm"] * rows.n
    values = [space.encoded.data[: space.encoded.used].tobytes()] * rows.n
    if rows.n == 1:
        Loader(plan, context.place.partition, plan.processor.make(context)).load(
            keys, values, np.zeros(1, np.uint8)
        )
