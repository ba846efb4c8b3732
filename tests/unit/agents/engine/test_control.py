"""Control records: what reaches a fold, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.checks import TS_AHEAD
from agents.engine.control import read_control
from agents.engine.processor import Control, Place
from tests.contract.harness import LOG_MS, PROCESSORS, plan_of
from topics import codec
from topics.partition import partition_of

PLAN = plan_of(PROCESSORS[0], partitions=4)


def read(value: bytes, partition: int = 0) -> tuple[Control | None, str | None]:
    return read_control(value, PLAN, Place("0123abcd", partition), 17, LOG_MS)


def setting(tenant: str, **more: Any) -> bytes:
    record = {"tenant": tenant, "setting": "alpha", "value": "1", "author": "a", "ts": 5}
    return codec.encode("control_setting", record | more)


def tick(ts: int) -> bytes:
    return codec.encode("control_tick", {"ts": ts})


def answer(**more: Any) -> bytes:
    record = {"tenant": HOMELY, "id": "0123abcd-0-16", "outcome": "allow", "ts": 5}
    return codec.encode("control_answer", {"leader": "", "rationale": "", **record, **more})


HOMELY = next(name for name in "abcdefgh" if partition_of(name, 4) == 0)


@given(tenant=st.text("abcXYZ019._-", min_size=1, max_size=128))
def test_a_setting_reaches_the_partition_of_its_tenant_only(tenant: str) -> None:
    home = partition_of(tenant, PLAN.partitions)
    for partition in range(PLAN.partitions):
        control, refusal = read(setting(tenant), partition)
        if partition == home:
            assert control == Control("setting", tenant, "alpha", "1", 5, 17, LOG_MS)
            assert refusal is None
        else:
            assert control is None and f"lives in partition {home}" in str(refusal)


def test_a_setting_for_everyone_is_obeyed_in_every_partition() -> None:
    for partition in range(PLAN.partitions):
        control, refusal = read(setting("*", value=""), partition)
        assert control is not None and refusal is None
        assert (control.tenant, control.value) == ("*", "")


@pytest.mark.parametrize(
    "tenant", ["", "a" * 129, "@position", "a\x1fstate", "a b", "é", "**", "a\n", "a" * 500_000]
)
def test_a_tenant_that_would_be_no_key_of_the_state_is_refused(tenant: str) -> None:
    for partition in range(PLAN.partitions):
        control, refusal = read(setting(tenant), partition)
        assert control is None and str(refusal).startswith("tenant: '*', or 1-128 of")


def test_a_tick_carries_the_wall_time() -> None:
    control, refusal = read(tick(LOG_MS * 1000))
    assert control == Control("tick", "*", "", "", LOG_MS * 1000, 17, LOG_MS) and refusal is None


def test_a_tick_from_the_future_is_refused() -> None:
    limit = LOG_MS * 1000 + TS_AHEAD
    assert read(tick(limit))[1] is None
    control, refusal = read(tick(limit + 1))
    assert control is None and "ahead" in str(refusal)


def test_an_answer_carries_the_decision() -> None:
    given = {"outcome": "override", "leader": "agent", "rationale": "because"}
    control, refusal = read(answer(**given))
    assert refusal is None and control is not None
    assert (control.kind, control.tenant, control.setting) == ("answer", HOMELY, "override")
    told = {"id": "0123abcd-0-16", "leader": "agent", "rationale": "because"}
    assert json.loads(control.value) == told and control.ts == LOG_MS * 1000


@pytest.mark.parametrize(
    ("forged", "field"),
    [
        ({"tenant": "*"}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"tenant": next(n for n in "abcdefgh" if partition_of(n, 4) != 0)}, "tenant"),
        ({"id": ""}, "id"),
        ({"id": "0123abce-0-16"}, "id"),
        ({"id": "0123abcd-1-16"}, "id"),
        ({"id": "0123abcd-0-17"}, "id"),  # this very record
        ({"id": "0123abcd-0-016"}, "id"),
        ({"id": "0123abcd-0--1"}, "id"),
        ({"id": "0123abcd-0-" + "1" * 5000}, "id"),
        ({"outcome": "pending"}, "outcome"),
        ({"outcome": "a" * 100_000}, "outcome"),
        ({"outcome": "override"}, "leader"),
        ({"leader": "agent"}, "leader"),
        ({"outcome": "override", "leader": "a b"}, "leader"),
        ({"outcome": "override", "leader": "a" * 129}, "leader"),
        ({"rationale": "é" * 129}, "rationale"),
    ],
)
def test_a_forged_answer_is_refused_by_the_field_that_is_wrong(
    forged: dict[str, Any], field: str
) -> None:
    control, refusal = read(answer(**forged))
    assert control is None and str(refusal).startswith(field) and len(str(refusal)) < 300


def test_what_is_no_control_record_is_refused() -> None:
    position = {"next_offset": 1, "seen": 1, "topic_id": "0" * 32, "epoch": 1, "version": 1}
    control, refusal = read(codec.encode("position", position))
    assert control is None and "position is not a control record" in str(refusal)


@given(junk=st.binary(max_size=40), where=st.sampled_from([900, 901, 902]))
def test_bytes_that_lie_are_refused_or_read(junk: bytes, where: int) -> None:
    control, refusal = read(codec.header(where) + junk)
    assert (control is None) != (refusal is None)


def test_truncated_bytes_are_refused_with_a_reason() -> None:
    for value in (setting("t"), tick(1), answer()):
        for end in range(len(value)):
            control, refusal = read(value[:end])
            assert control is None and refusal
