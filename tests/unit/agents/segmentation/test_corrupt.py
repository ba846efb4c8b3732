"""State rows that no honest writer made: a named error, or a state that goes on; never a crash."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agents.engine.errors import UnknownVersion
from agents.engine.recovery import Loader
from agents.segmentation.agent import PROCESSOR
from agents.segmentation.rule import COUNTS, NUMBERS, RUNS
from tests.contract.harness import Run, messages, plan_of, setting
from tests.unit.agents.segmentation.samples import DOMAINS, TENANTS, records
from topics import codec

pytestmark = pytest.mark.kernel

PLAN = plan_of(PROCESSOR)
LONG = st.integers(-(2**63), 2**63 - 1)
NEAR = st.integers(-3, 210)
NUMBER = st.floats(allow_nan=True, allow_infinity=True)
FIELDS = ("seen", "start", "start_ts", "touched", "boundaries", "measured")


@cache
def honest() -> dict[bytes, dict[str, Any]]:
    """Rows of a run with every law on, decoded."""
    told = [setting(0, "*", "cpd", "bocpd"), setting(1, "*", "hmm", "on")]
    sent = records(np.random.default_rng(4), 900)
    run = Run(PLAN).feed([[*told, *messages(PLAN, sent, len(told))]])
    return {key: codec.decode(value)[1] for key, value in run.rows().items()}


SERIES = [f"{tenant}\x1f{domain}".encode() for tenant in TENANTS for domain in DOMAINS]
KEYS = [*SERIES, *(tenant.encode() for tenant in TENANTS)]


def load(key: bytes, row: dict[str, Any]) -> Run:
    """A fold that was given this row, and then more frames of the same tenants."""
    run = Run(PLAN)
    values = [codec.encode("segmentation_state", one) for one in (honest()[b"*"], row)]
    Loader(PLAN, 0, run.fold).load([b"*", key], values, np.zeros(2, np.uint8))
    return run.feed([messages(PLAN, records(np.random.default_rng(5), 300))])


def survives(key: bytes, row: dict[str, Any]) -> None:
    try:
        load(key, row)
    except UnknownVersion as error:
        assert repr(key) in str(error)


@hypothesis_settings(max_examples=60)
@given(st.sampled_from(KEYS), st.sampled_from(FIELDS), LONG | NEAR)
def test_a_wrong_number(key: bytes, field: str, value: int) -> None:
    survives(key, honest()[key] | {field: value})


@hypothesis_settings(max_examples=80)
@given(st.sampled_from(KEYS), st.integers(0, len(COUNTS) - 1), LONG | NEAR)
def test_a_wrong_place_of_a_law(key: bytes, which: int, value: int) -> None:
    counts = list(honest()[key]["counts"])
    if counts:
        counts[which] = value
    survives(key, honest()[key] | {"counts": counts})


@hypothesis_settings(max_examples=60)
@given(st.sampled_from(KEYS), st.integers(0, len(NUMBERS) - 1), NUMBER)
def test_a_wrong_number_of_a_law(key: bytes, which: int, value: float) -> None:
    numbers = list(honest()[key]["numbers"])
    if numbers:
        numbers[which] = value
    survives(key, honest()[key] | {"numbers": numbers})


@hypothesis_settings(max_examples=80)
@given(
    st.sampled_from(KEYS),
    st.sampled_from(("values", "confidences", "runs", "times", "leaders", "lasted", "counts")),
    st.integers(0, 400),
)
def test_a_list_of_a_wrong_length(key: bytes, field: str, size: int) -> None:
    old = honest()[key][field]
    blank: Any = b"\x00" if isinstance(old, bytes) else [1] if field != "leaders" else ["x"]
    survives(key, honest()[key] | {field: (old + blank * size)[:size]})


@pytest.mark.parametrize("field", ["counts", "numbers"])
def test_a_row_of_tomorrow_is_named(field: str) -> None:
    key = SERIES[0]
    with pytest.raises(UnknownVersion, match="contradicts itself"):
        load(key, honest()[key] | {field: [*honest()[key][field], 1]})


def test_more_run_lengths_than_there_is_room_for_are_refused() -> None:
    key = next(key for key in SERIES if honest()[key]["runs"])
    counts = list(honest()[key]["counts"])
    counts[COUNTS.index("b_used")] = RUNS + 1
    runs = (honest()[key]["runs"] * (RUNS + 1))[: 24 * (RUNS + 1)]
    with pytest.raises(UnknownVersion, match="contradicts itself"):
        load(key, honest()[key] | {"counts": counts, "runs": runs})


def test_a_key_that_is_no_text_is_named() -> None:
    key = SERIES[0]
    with pytest.raises(UnknownVersion, match="isn't UTF-8"):
        load(b"\xff\xfe\x1fd", honest()[key])
