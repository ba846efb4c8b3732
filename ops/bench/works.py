"""What the peers' programs do with a record: the work, apart from the frameworks it is done in."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import hypot
from struct import unpack
from typing import Any

from fastavro import schemaless_reader

from ops.bench import law
from ops.bench.wire import OBSERVATION, decode_update, encode, encode_frame, load
from ops.examples import PLUGIN

FUSION, ROWS = "fusion", "rows"

State = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """A record's value -> record; state, record and its id -> output; output -> its value."""

    decode: Callable[[bytes], Record]
    new_state: Callable[[], State]
    fold: Callable[[State, Record, str], Record]
    encode: Callable[[Record], bytes]


def decode_observation(value: bytes) -> Record:
    """An observation from its value."""
    return schemaless_reader(BytesIO(value[5:]), OBSERVATION, None)  # type: ignore[return-value]


def new_count() -> State:
    """A tenant without observations."""
    return {"total": 0, "last_ts": 0, "norms": 0.0}


def count(state: State, record: Record, ident: str) -> Record:
    """As ops/examples/counting.py does."""
    vector: bytes = record["vector"]
    state["total"] += 1
    state["last_ts"] = record["ts"]
    state["norms"] += hypot(*unpack(f"<{len(vector) // 4}f", vector))
    return {
        "tenant": record["tenant"],
        "ts": record["ts"],
        "total": state["total"],
        "norms": state["norms"],
        "observation_id": ident,
    }


def work(name: str) -> Work:
    """The work of a job: the integrator's (`FUSION`), or the counting of rows (`ROWS`)."""
    if name == FUSION:
        return Work(decode_update, law.new_state, law.fold, encode_frame)
    assert PLUGIN.schemas is not None
    schema, header = load("observation_count", PLUGIN.schemas)
    return Work(decode_observation, new_count, count, lambda record: encode(header, schema, record))
