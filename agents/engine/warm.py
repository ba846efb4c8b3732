"""Compile every kernel before the worker says it is ready: the first real batch must not wait."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

import numpy as np

from agents.engine.batches import raw_batch
from agents.engine.builder import RawBuilder
from agents.engine.digest import rows_of
from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Batch, Context, Control, Fold, Output, Place, StateRows
from agents.engine.records import frame_one
from agents.engine.recovery import Loader
from agents.engine.work import Worker
from agents.engine.workspace import Outcome, Workspace
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


PLAIN: dict[str, Any] = {
    "null": None,
    "string": "warm",
    "bytes": bytes(16),
    "boolean": False,
    "int": 0,
    "long": 0,
    "float": 0.5,
    "double": 0.5,
}


def sample(schema: dict[str, Any], items: int = 0) -> dict[str, Any]:
    """A record of a schema with the plainest values: it need not be foldable, only decodable.

    Maps and lists have so many items, 0 or 1; without any, what may be null is.
    """
    return {field["name"]: _value(field["type"], items) for field in schema["fields"]}


def _value(kind: Any, items: int) -> Any:
    if isinstance(kind, list):
        return _value(next((one for one in kind if (one == "null") != bool(items)), kind[0]), items)
    name = kind["type"] if isinstance(kind, dict) else kind
    if name == "map":
        return {PLAIN["string"]: _value(kind["values"], items)} if items else {}
    if name == "array":
        return [_value(kind["items"], items)] if items else []
    return kind["symbols"][0] if name == "enum" else PLAIN[name]


def warm(plan: Plan, settings: Settings) -> None:
    """Run records of every kind through a fold that is thrown away, and load its rows."""
    now = time.time_ns() // 1000
    reads = plan.kinds[0].reads
    record = sample(schemas().newest(plan.schema), 1) | ({reads.ts: now} if reads.ts else {})
    value = codec.encode(plan.schema, record)
    key = record[reads.tenant].encode()
    place = Place("0" * 8, partition_of(key, plan.partitions))
    defaults = defaults_of(plan.processor, settings)
    context = plan.context(place, defaults)
    fold: Fold = plan.processor.make(context) if plan.processor.in_loop else Unmoved()

    def run(*parts: tuple[bytes | None, bytes]) -> Outcome:
        worker, batch = Worker(plan, place, fold), raw_batch(_batch(parts))
        return worker.run(Workspace(plan), [batch], 0, lambda _: b"")

    results = run((key, value), (key, value), (None, value), (key, b"\0"), (key, value)).results
    if results["folded"] != 3 or results["misrouted"] + results["dead"] + results["left"] != 2:
        raise RuntimeError(f"{plan.processor.name}: the warm-up gave {results}")
    changed = run(*_controls(plan, record[reads.tenant], defaults, now)).results
    if changed["dead"]:
        raise RuntimeError(f"{plan.processor.name}: the warm-up's settings gave {changed}")
    if plan.processor.in_loop:
        _warm_load(plan, context, fold)
    names = (f"warm-{k}".encode() for k in count())
    ours = (one for one in names if partition_of(one, plan.partitions) == place.partition)
    run(
        *(
            (k, codec.encode(plan.schema, record | {reads.tenant: k.decode()}))
            for k in islice(ours, TENANTS)
        )
    )


def _controls(
    plan: Plan, tenant: str, defaults: Mapping[str, str], now: int
) -> Iterator[tuple[bytes | None, bytes]]:
    """A tick, and a setting if there are any, to the value that it has."""
    yield None, codec.encode("control_tick", {"ts": now})
    for name in islice(plan.processor.settings, 1):
        fields = {"tenant": tenant, "setting": name, "value": defaults[name], "author": "warm"}
        mine = {"processor": plan.processor.name, "ts": now}
        yield tenant.encode(), codec.encode("control_setting", fields | mine)


def _batch(parts: Sequence[tuple[bytes | None, bytes]]) -> bytes:
    """A record batch of these keys and values, as a broker has it."""
    framed = b"".join(frame_one(i, k, v, [("h", b"v")]) for i, (k, v) in enumerate(parts))
    return RawBuilder(framed, len(parts))._build()


def _warm_load(plan: Plan, context: Context, fold: Fold) -> None:
    """Load the rows of a fold into another, and let one go again."""
    rows = rows_of(plan, fold)
    if not rows:
        raise RuntimeError(f"{plan.processor.name}: the warm-up left no rows")
    loader = Loader(plan, context.place.partition, plan.processor.make(context))
    loader.load(list(rows), list(rows.values()), np.zeros(len(rows), np.uint8))
    last = next(reversed(rows))
    loader.load([last], [b""], np.ones(1, np.uint8))
