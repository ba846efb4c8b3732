"""How long the column kernels take per record, beside fastavro: `python -m ops.bench.columns`.

Batches of 5,000 records with reused buffers, then of one; the best of many runs, in one thread.
"""

import io
import time
from collections.abc import Callable
from typing import Any

import click
import fastavro
import numpy as np

from topics.columns import Buffer, Columns, Layout, Reader, Writer
from topics.schemas import schemas

ROWS = 5_000
DOMAINS = ("state", "sensor", "network")
TS = 1_795_000_000_000_000  # 2026, in microseconds


def update(k: int) -> dict[str, Any]:
    """A predictor update as the predictors write it."""
    return {
        "tenant": f"tenant-{k % 300:04d}",
        "domain": DOMAINS[k % 3],
        "predictor_type": "heat",
        "error_metric": 0.25 * (k % 7),
        "prediction_latency_ms": 1.5,
        "model_version": "1.0",
        "vector_dim": 16,
        "confidence": 0.5,
        "observation_id": f"1a2b3c4d-0-{k}",
        "ts": TS + k,
    }


def frame(k: int) -> dict[str, Any]:
    """A frame of three domains as the integrator writes it."""
    return {
        "frame_id": f"1a2b3c4d-0-{k}",
        "tenant": f"tenant-{k % 300:04d}",
        "ts": TS + k,
        "domain": DOMAINS[k % 3],
        "leader": DOMAINS[0],
        "weights": dict.fromkeys(DOMAINS, 1 / 3),
        "errors": dict.fromkeys(DOMAINS, 0.1 * (k % 11)),
        "confidence": 0.4,
        "entropy": 0.9,
        "regret_bound": 1.25,
        "dwell_ms": 150,
        "veto": "none",
        "rationale": "",
        "observation_id": f"1a2b3c4d-0-{k}",
        "config_version": 1,
        "policy": "1a2b3c4d5e6f7a8b",
    }


def best(work: Callable[[], None], seconds: float = 1.0) -> float:
    """The shortest of the runs that fit into so many seconds, in seconds."""
    work()  # compiles
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        shortest = min(shortest, time.perf_counter() - begun)
    return shortest


def kernels(name: str, bodies: list[bytes]) -> tuple[float, float]:
    """Seconds to decode a batch, and to encode it."""
    layout = Layout(schemas().newest(name))
    number = schemas().schema_id(name)
    header = b"\0" + number.to_bytes(4, "big")
    length = np.array([len(header) + len(body) for body in bodies], np.int64)
    pos = np.cumsum(length) - length
    buf = np.frombuffer(bytearray(b"".join(header + body for body in bodies)), np.uint8)
    status, columns, out = np.zeros(len(bodies), np.uint8), Columns(layout), Buffer()
    rows, off = np.arange(len(bodies)), np.zeros(len(bodies) + 1, np.int64)
    reader, writer = Reader(layout, schemas().writers(name)), Writer(layout, number)

    def decode() -> None:
        columns.clear()
        reader.decode(buf, pos, length, status, columns)

    def encode() -> None:
        out.clear()
        writer.encode(columns, rows, (buf, buf, buf), out, off)

    seconds = best(decode), best(encode)
    if status.any() or out.data[: out.used].tobytes() != buf.tobytes():
        raise click.ClickException(f"{name}: what was encoded is not what was decoded")
    return seconds


def rows(schema: Any, records: list[dict[str, Any]], bodies: list[bytes]) -> tuple[float, float]:
    """Seconds that fastavro takes to decode a record, and to encode it."""

    def decode() -> None:
        for body in bodies:
            fastavro.schemaless_reader(io.BytesIO(body), schema, None)

    def encode() -> None:
        for record in records:
            written(schema, record)

    return best(decode) / len(bodies), best(encode) / len(bodies)


@click.command()
def main() -> None:
    """Print nanoseconds per record, and microseconds per call with one record."""
    for name, make in (("predictor_update", update), ("global_frame", frame)):
        schema = schemas().newest(name)
        records = [{**defaults(schema), **make(k)} for k in range(ROWS)]
        bodies = [written(schema, record) for record in records]
        decode, encode = kernels(name, bodies)
        one_decode, one_encode = kernels(name, bodies[:1])
        row_decode, row_encode = rows(schema, records[:500], bodies[:500])
        click.echo(
            f"{name} ({len(bodies[-1])} bytes): "
            f"decode {decode / ROWS * 1e9:.0f} ns (fastavro {row_decode * 1e9:.0f}), "
            f"encode {encode / ROWS * 1e9:.0f} ns (fastavro {row_encode * 1e9:.0f}); "
            f"one record {one_decode * 1e6:.1f} and {one_encode * 1e6:.1f} µs"
        )


def defaults(schema: Any) -> dict[str, Any]:
    """What a schema says its fields are when they aren't given."""
    return {field["name"]: field["default"] for field in schema["fields"] if "default" in field}


def written(schema: Any, record: dict[str, Any]) -> bytes:
    """A record by fastavro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


if __name__ == "__main__":
    main()
