"""Control records: what reaches a fold, and what is refused."""

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


def test_what_is_no_control_record_is_refused() -> None:
    position = {"next_offset": 1, "seen": 1, "topic_id": "0" * 32, "epoch": 1, "version": 1}
    control, refusal = read(codec.encode("position", position))
    assert control is None and "position is not a control record" in str(refusal)


@given(junk=st.binary(max_size=40), where=st.sampled_from([900, 901]))
def test_bytes_that_lie_are_refused_or_read(junk: bytes, where: int) -> None:
    control, refusal = read(codec.header(where) + junk)
    assert (control is None) != (refusal is None)


def test_truncated_bytes_are_refused_with_a_reason() -> None:
    for value in (setting("t"), tick(1)):
        for end in range(len(value)):
            control, refusal = read(value[:end])
            assert control is None and refusal
