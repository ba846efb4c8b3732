"""What tenants send that nobody wishes for: many domains, times at random, the longest names."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.engine.digest import digest
from agents.engine.recovery import Loader
from tests.contract.harness import Run, setting
from tests.unit.agents.segmentation.test_fold import PLAN, START, decoded, fold, frame, stepped

pytestmark = pytest.mark.kernel


def test_ten_thousand_domains_are_dead_letters_and_the_rest_flows() -> None:
    many = [frame(k, 0.5, domain=f"d{k}", tenant="many") for k in range(10_000)]
    well = [frame(k, stepped(k)) for k in range(100)]
    mixed = [one for k in range(100) for one in (*many[k * 100 : k * 100 + 100], well[k])]
    run = fold(mixed)
    assert run.results["dead"] == 10_000 - 256
    reasons = {dict(sent.headers)["soma-reason"] for sent in run.of(PLAN.dlq)}
    assert reasons == {b"too_many_domains"}
    assert [one["tenant"] for one in decoded(run.outputs())] == ["t"]
    assert run.fold.tenants() == 256 + 1
    store = run.fold.store  # type: ignore[attr-defined]
    assert store.domains.rows.shape[0] <= 512
    store.marks.used[0] = 0
    store.tidy()
    assert store.names.count < 1024


@hypothesis_settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_times_at_random_change_no_place(seed: int) -> None:
    """Late frames and equal times: the law counts points, and gives each the time it came with."""
    rng = np.random.default_rng(seed)
    times = [START + int(t) for t in rng.integers(0, 10**9, 100)]
    times[50:55] = [times[50]] * 5
    late = [frame(k, stepped(k), ts=times[k]) for k in range(100)]
    (one,), (other,) = (decoded(fold(x).outputs()) for x in (late, [*map(on_time, late)]))
    assert (one["frames"], one["score"]) == (other["frames"], other["score"])
    assert one["boundary_ts"] == times[one["frames"]]
    assert one["start_ts"] == times[0]
    assert one["dwell_ms"] == max(0, times[one["frames"]] - times[0]) // 1000


def on_time(record: dict[str, Any]) -> dict[str, Any]:
    number = int(record["frame_id"].split("-")[-1])
    return record | {"ts": START + number * 1_000_000}


def test_ids_and_leaders_of_the_longest_have_room() -> None:
    records = [
        frame(k, 0.5, leader=("a" if k < 5 else "b") * 1000) | {"frame_id": f"{k}-" * 500}
        for k in range(9)
    ]
    (one,) = decoded(fold(records).outputs())
    assert one["segment_id"] == f"{records[5]['frame_id']}:{'a' * 1000}:leader_change"


def test_a_law_begins_whenever_it_is_turned_on() -> None:
    """hmm by a setting in mid-stream, and hmm after a warm-up, say what hmm from the start says."""
    rng = np.random.default_rng(11)
    x = np.abs(np.concatenate([rng.normal(size=200), rng.normal(size=80) * 6, rng.normal(size=80)]))
    records = [frame(k, float(value)) for k, value in enumerate(x)]
    on = [setting(0, "t", "cpd", "off"), setting(1, "t", "hmm", "on")]
    found = decoded(fold(records, *on).outputs())
    assert [abs(one["frames"] - n) <= 10 for one, n in zip(found, (200, 80), strict=True)]
    for first in (
        [
            setting(0, "t", "cpd", "off"),
            setting(1, "t", "hmm", "on"),
            setting(2, "t", "warmup", "90"),
        ],
    ):
        later = decoded(fold(records, *first).outputs())
        assert len(later) == len(found)
        for one, other in zip(later, found, strict=True):
            assert abs(one["boundary_ts"] - other["boundary_ts"]) <= 5_000_000


def test_more_tenants_than_there_was_room_for_come_back() -> None:
    """Tenants' rows first, then their series': each makes the arrays anew now and then."""
    run = fold([frame(k, 0.5, tenant=f"tenant-{k % 90}") for k in range(400)])
    rows = sorted(run.rows().items(), key=lambda row: b"\x1f" in row[0])
    for chunk in (1, 7, 1000):
        again = Run(PLAN)
        loader = Loader(PLAN, 0, again.fold)
        for lo in range(0, len(rows), chunk):
            part = rows[lo : lo + chunk]
            values = [value or b"" for _, value in part]
            loader.load([key for key, _ in part], values, np.zeros(len(part), np.uint8))
        assert again.fold.tenants() == run.fold.tenants() >= 90
        assert digest(PLAN, again.fold) == digest(PLAN, run.fold)
