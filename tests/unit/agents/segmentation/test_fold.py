"""The fold over frames: leaders, domains, their limit, settings for one domain, forgetting."""

from typing import Any

import pytest

from agents.engine.digest import rows_of
from agents.engine.processor import Control
from agents.segmentation.agent import PROCESSOR
from tests.contract.harness import Message, Run, Sent, batch_of, messages, plan_of, setting
from topics import codec

pytestmark = pytest.mark.kernel

START = 1_700_000_000_000_000
PLAN = plan_of(PROCESSOR)
YEAR = 366 * 86_400_000_000


def frame(k: int, error: float, **more: Any) -> dict[str, Any]:
    """Frame k of tenant t, one a second, of domain d with this error."""
    domain = more.get("domain", "d")
    return {
        "frame_id": f"0123abcd-0-{k}", "tenant": "t", "ts": START + k * 1_000_000, "domain": "d",
        "leader": "a", "weights": {"a": 0.75, "b": 0.25}, "errors": {domain: error, "a": 0.5},
        "confidence": 0.75, "entropy": 0.5, "regret_bound": 1.0, "dwell_ms": 0, "veto": "none",
        "rationale": "", "observation_id": "", "config_version": 0, "policy": "",
    } | more  # fmt: skip


def fold(records: list[dict[str, Any]], *first: Message) -> Run:
    return Run(PLAN).feed([[*first, *messages(PLAN, records, len(first))]])


def decoded(sent: list[Sent]) -> list[dict[str, Any]]:
    return [codec.decode(one.value)[1] for one in sent if one.value is not None]


def stepped(k: int) -> float:
    return (0.25 if k < 60 else 2.0) + 0.01 * (k * 7 % 5)


def test_a_change_closes_the_segment_where_it_was() -> None:
    run = fold([frame(k, stepped(k)) for k in range(100)])
    (one,) = decoded(run.outputs())
    at = int(one["frame_id"].split("-")[-1])
    assert 60 < at <= 70
    assert one["segment_id"] == f"{one['frame_id']}:d:cpd"
    assert (one["domain"], one["leader"], one["frames"]) == ("d", "a", 60)
    assert one["dwell_ms"] == 60_000
    assert one["mean_error"] == pytest.approx(sum(stepped(k) for k in range(60)) / 60)
    assert one["peak_error"] == max(stepped(k) for k in range(60))
    assert one["mean_confidence"] == 0.75


def test_boundaries_are_counted_by_what_showed_them() -> None:
    """By the transaction's outcome, which is counted once it is committed."""
    records = [frame(k, stepped(k), leader="a" if k < 90 else "b") for k in range(100)]
    run, part = Run(PLAN), messages(PLAN, records, 0)
    counted = [
        run.worker.run(run.space, [batch_of(some)], some[0].offset, lambda _: b"").counted
        for some in (part[:50], part[50:])
    ]
    assert counted == [
        {}, {"soma_boundaries_total:leader_change": 1, "soma_boundaries_total:cpd": 1}
    ]  # fmt: skip
    assert {tally.name for tally in PROCESSOR.tallies} == {"soma_boundaries_total"}


def test_a_new_leader_closes_the_old_ones_segment() -> None:
    run = fold([frame(k, 0.5, leader="a" if k < 5 else "b") for k in range(9)])
    (one,) = decoded(run.outputs())
    assert one["segment_id"] == "0123abcd-0-5:a:leader_change"
    assert (one["domain"], one["leader"], one["frames"], one["score"]) == ("a", "a", 5, 0.0)
    assert (one["dwell_ms"], one["mean_error"], one["peak_error"]) == (5000, 0.5, 0.5)
    assert fold(
        [frame(k, 0.5, leader="a" if k < 5 else "b") for k in range(9)],
        setting(0, "t", "leader", "off"),
    ).outputs() == []  # fmt: skip


def test_a_setting_for_one_domain_is_that_domains_only() -> None:
    records = [
        frame(2 * k + n, stepped(k), domain=domain)
        for k in range(100)
        for n, domain in enumerate(("d", "e"))
    ]
    found = decoded(fold(records, setting(0, "t", "cpd@d", "off")).outputs())
    assert [one["domain"] for one in found] == ["e"]
    found = decoded(fold(records, setting(0, "*", "cpd@d", "off")).outputs())
    assert [one["domain"] for one in found] == ["e"]
    both = (setting(0, "*", "cpd", "off"), setting(1, "t", "cpd@d", "glr"))
    assert [one["domain"] for one in decoded(fold(records, *both).outputs())] == ["d"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpd@", "off"), ("leader@d", "on"), ("cpd", "yes"), ("gradient", "nan"), ("warmup", "1.5")],
)
def test_a_bad_setting_is_refused(name: str, value: str) -> None:
    run = fold([frame(1, 0.5)], setting(0, "t", name, value))
    assert run.results["dead"] == 1


def test_more_domains_than_the_limit_are_dead_letters() -> None:
    records = [frame(k, 0.5, domain=f"d{k % 20}") for k in range(60)]
    run = fold(records, setting(0, "t", "domains_max", "16"))
    assert run.results["dead"] == 12
    reasons = {dict(sent.headers)["soma-reason"] for sent in run.of(PLAN.dlq)}
    assert reasons == {b"too_many_domains"}
    assert run.fold.tenants() == 16


def test_silence_forgets_domains_and_tenants_but_no_settings() -> None:
    run = fold([frame(k, 0.5) for k in range(9)], setting(0, "s", "cpd", "off"))
    assert set(run.rows()) == {b"t", b"t\x1fd", b"s"}
    assert run.fold.deadline() is not None
    assert run.fold.control(Control("tick", "", "", "", START + YEAR * 20, 0, 0)) is None
    assert run.fold.tenants() == 0 and run.fold.deadline() is None
    assert set(rows_of(PLAN, run.fold)) == {b"s"}


def test_after_rows_in_any_order_a_setting_writes_what_it_would_have_written() -> None:
    told = (setting(0, "*", "cpd", "bocpd"), setting(1, "t", "cpd", "glr"))
    run = fold([frame(k, stepped(k)) for k in range(30)], *told)
    rows, again, before = run.rows(), Run(PLAN), len(run.of(PLAN.state))
    for key in (b"*", b"t\x1fd", b"t"):  # its own value comes last: till then it was bocpd's
        again.load({key: rows[key]})
    for one in (run, again):
        one.feed([[setting(40, "t", "hmm", "on")]])
    assert [one.key for one in again.of(PLAN.state)] == [b"t"]
    assert again.of(PLAN.state) == run.of(PLAN.state)[before:]


def test_a_row_takes_as_many_bytes_as_it_says() -> None:
    run = fold([frame(k, 0.5 + k / 1024) for k in range(200)])
    assert 950 <= len(run.rows()[b"t\x1fd"]) <= 1400
    assert len(run.rows()[b"t"]) <= 120
