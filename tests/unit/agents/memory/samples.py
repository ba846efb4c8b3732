"""Events of memories to try the processor with (the contract suite finds them here)."""

import json
from typing import Any

import numpy as np

from agents.coordinates import event_id, memory_id

START = 1_700_000_000_000_000  # µs
TYPES = ("created", "created", "updated", "accessed", "linked", "deleted")
DIMENSION = 8


def event(
    type_: str = "created", coordinate: str = "1", tenant: str = "a", **more: Any
) -> dict[str, Any]:
    """An event of the memory at a coordinate."""
    payload = json.dumps({"text": f"what lies at {coordinate}"})
    return {
        "event_id": event_id(tenant, more.get("dedupe_key", "")),
        "id": memory_id(tenant, coordinate), "tenant": tenant, "namespace": "", "type": type_,
        "ts": START, "coordinate": coordinate, "memory_type": "episodic", "payload": payload,
        "importance": None, "embedding": b"", "model_revision": "", "links": {}, "dedupe_key": "",
        "expected_version": None, "expected_key": "",
    } | more  # fmt: skip


def vector(*numbers: float) -> bytes:
    """Little-endian float32."""
    return np.array(numbers, "<f4").tobytes()


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Events of a few memories of a few tenants, some of which change nothing."""
    return [_one(rng, k) for k in range(n)]


def _one(rng: np.random.Generator, k: int) -> dict[str, Any]:
    tenant, at = f"t{int(rng.integers(4))}", str(int(rng.integers(12)))
    other = memory_id(tenant, str(int(rng.integers(12))))
    found = event(TYPES[int(rng.integers(len(TYPES)))], at, tenant, ts=START + k)
    if rng.random() < 0.4:
        found["embedding"] = rng.normal(size=DIMENSION).astype("<f4").tobytes()
    if rng.random() < 0.3 and other != found["id"]:
        found["links"] = {other: "next"}
    if rng.random() < 0.5:
        found["dedupe_key"] = f"k{int(rng.integers(2 * k + 1))}"
    if rng.random() < 0.2:
        found["expected_version"] = int(rng.integers(4))
    if rng.random() < 0.3:
        found["importance"] = float(rng.exponential())
    return found


def named(record: dict[str, Any], tenant: str) -> dict[str, Any]:
    """The same as another tenant's: ids follow from the tenant."""
    return record | {"tenant": tenant, "id": memory_id(tenant, record["coordinate"])}


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("horizon_s", "3600"), ("links_max", "3"), ("guard_percent", "12.5")]
