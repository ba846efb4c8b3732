"""A row's digest is what receipts of earlier versions say it is, for ever."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.outbox.digests import digests_of
from agents.outbox.rows import rows_of
from agents.outbox.warm import copy_of

pytestmark = pytest.mark.kernel

TEXT = st.binary(max_size=12)
MASK = (1 << 64) - 1


def fnv1a(data: bytes) -> int:
    """By its authors' definition."""
    digest = 0xCBF29CE484222325
    for byte in data:
        digest = (digest ^ byte) * 0x100000001B3 & MASK
    return digest


def digests(rows: list[tuple[bytes, bytes, int]]) -> list[int]:
    cells = [
        (bytes(8), b"topic", tenant, b"key", dedupe, struct.pack(">q", at), None, b"x", None)
        for tenant, dedupe, at in rows
    ]
    return [int(one) for one in digests_of(rows_of(copy_of(cells), len(rows)))]


def test_the_function_is_fnv_1a() -> None:
    assert fnv1a(b"") == 0xCBF29CE484222325 and fnv1a(b"foobar") == 0x85944171F73967E8


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(-(2**62), 2**62)), max_size=5))
def test_it_is_of_tenant_dedupe_key_and_creation(rows: list[tuple[bytes, bytes, int]]) -> None:
    wanted = [
        fnv1a(b"\x1f".join([tenant, dedupe, struct.pack("<q", at)])) for tenant, dedupe, at in rows
    ]
    assert digests(rows) == wanted


def test_it_never_changes() -> None:
    """Written down: receipts on disk hold it."""
    (one,) = digests([(b"acme", b"order-17-paid", 823_132_800_000_000)])
    assert one == fnv1a(b"acme\x1forder-17-paid\x1f" + struct.pack("<q", 823_132_800_000_000))
    assert np.uint64(one).tobytes().hex() == "4ed69f37a00952ad"
