"""All processors in one worker: observations become volatile, and a boundary says where."""

from typing import Any

import numpy as np
import pytest

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec

START = 1_769_860_800_000_000
SECOND = 1_000_000


def observations(domain: str, first: int, spread: float, n: int = 60) -> list[tuple[bytes, bytes]]:
    """n observations of tenant t, one a second from `first` on, uniform within ±spread."""
    rng = np.random.default_rng(first)
    return [
        (
            b"t",
            codec.encode(
                "observation",
                {
                    "tenant": "t",
                    "domain": domain,
                    "ts": START + (first + k) * SECOND,
                    "vector": np.float32(rng.uniform(-spread, spread, 4)).tobytes(),
                    "sequence": None,
                },
            ),
        )
        for k in range(n)
    ]


def boundaries(settings: Settings, domain: str) -> list[dict[str, Any]]:
    found = [codec.decode(m.value() or b"")[1] for m in read(settings, "cog.segments")]
    return [one for one in found if one["domain"] == domain and one["evidence"] == "cpd"]


def test_a_step_of_the_errors_is_a_boundary_until_it_is_turned_off(
    topics: Settings, worker: WorkerFactory
) -> None:
    one = worker()
    produce(topics, "cog.observations", observations("state", 0, 0.1))
    produce(topics, "cog.observations", observations("state", 60, 3.0))
    found = eventually(lambda: boundaries(topics, "state"))[0]
    assert abs(found["boundary_ts"] - START - 60 * SECOND) <= 2 * SECOND
    assert 0 <= found["detected_ts"] - found["boundary_ts"] <= 20 * SECOND
    assert found["segment_id"] == f"{found['frame_id']}:state:cpd"
    assert found["start_ts"] - START <= SECOND and abs(found["frames"] - 60) <= 2
    assert found["dwell_ms"] == (found["boundary_ts"] - found["start_ts"]) // 1000
    assert 0 < found["mean_error"] <= found["peak_error"] and found["score"] > 0
    frames = {
        frame["frame_id"]: frame
        for frame in (codec.decode(m.value() or b"")[1] for m in read(topics, "cog.global.frame"))
    }
    assert frames[found["frame_id"]]["ts"] == found["detected_ts"]
    own = [f for f in frames.values() if found["start_ts"] <= f["ts"] < found["boundary_ts"]]
    errors = [frame["errors"]["state"] for frame in own]
    assert found["mean_error"] == pytest.approx(np.mean(errors))
    assert found["peak_error"] == max(errors)

    told = ("config", "set", "t", "cpd@state", "off")  # by control
    assert soma(*told, env=environment(topics)).returncode == 0
    for domain in ("state", "agent"):
        produce(topics, "cog.observations", observations(domain, 120, 0.1))
        produce(topics, "cog.observations", observations(domain, 180, 3.0))
    eventually(lambda: boundaries(topics, "agent"))
    off = START + 120 * SECOND  # the predictor gets used to the step: another boundary before
    assert all(one["detected_ts"] < off for one in boundaries(topics, "state"))
    assert one.stop() == 0
