"""Which records are left of a batch: some tenants', and those for everybody."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.history.pick import Sample, pick_some
from topics import codec
from topics.schemas import control_ids

pytestmark = pytest.mark.kernel

NAMES = st.text("ab.c", min_size=1, max_size=5)
RESERVED = np.array(control_ids(), np.int64)
TICK = codec.encode("control_tick", {"ts": 1})


@given(st.sets(NAMES, max_size=20), st.lists(st.tuples(NAMES, st.booleans()), max_size=40))
def test_those_of_the_sample_and_control_records_stay(
    tenants: set[str], records: list[tuple[str, bool]]
) -> None:
    text, spans = b"", []
    for name, control in records:
        value = TICK if control else b"\0value"
        at = len(text)
        text += name.encode() + value
        spans.append((at, len(name), at + len(name), len(value)))
    n = len(spans)
    columns = [np.array([one[k] for one in spans], np.int64) for k in range(4)]
    offsets, times = np.arange(n), np.zeros(n, np.int64)
    sample = Sample(tenants)
    buf = np.frombuffer(bytearray(text) or bytearray(1), np.uint8)
    kept = pick_some(
        buf, n, sample.names, sample.ends, RESERVED, offsets, times, *columns
    )  # fmt: skip
    wanted = [k for k, (name, control) in enumerate(records) if control or name in tenants]
    assert offsets[:kept].tolist() == wanted
    assert columns[0][:kept].tolist() == [spans[k][0] for k in wanted]
