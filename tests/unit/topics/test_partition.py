from typing import Any

import numpy as np
import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import example, given
from hypothesis import strategies as st

from topics.kernels import murmur2_kernel
from topics.partition import POSITIVE, murmur2, partition_of

# Kafka's own: clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
PLAIN: Any = getattr(murmur2_kernel, "py_func", murmur2_kernel)


def as_array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize(("data", "expected"), JAVA.items())
def test_gives_what_java_gives(data: bytes, expected: int) -> None:
    assert murmur2(data) == expected
    assert murmur2_kernel(as_array(data), 0, len(data)) == expected & POSITIVE


@given(st.binary(max_size=64))
@example(b"")
@example(b"\xff\xff\xff")
@example(b"\x80" * 7)
def test_agrees_with_aiokafka(data: bytes) -> None:
    assert murmur2(data) & POSITIVE == aiokafka_murmur2(data) & POSITIVE


@given(st.binary(max_size=40), st.binary(max_size=9), st.binary(max_size=9))
def test_kernel_agrees_wherever_the_span_lies(data: bytes, before: bytes, after: bytes) -> None:
    buf = as_array(before + data + after)
    expected = murmur2(data) & POSITIVE
    assert murmur2_kernel(buf, len(before), len(data)) == expected
    assert PLAIN(buf, len(before), len(data)) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 1000))
def test_partition_lies_within_range_and_text_means_utf8(tenant: str, n: int) -> None:
    place = partition_of(tenant, n)
    assert 0 <= place < n
    assert place == partition_of(tenant.encode(), n)


def test_tenants_spread_evenly() -> None:
    counts = np.bincount([partition_of(f"tenant-{k}", 4) for k in range(4000)])
    assert counts.min() > 900
