"""Values patched from a template equal those encoded from a record."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from ops.bench.filling import (
    DOMAINS,
    FRESH_SPAN_US,
    Template,
    observations,
    tenant_names,
    update,
    updates,
)
from ops.bench.wire import UPDATE, UPDATE_HEADER, decode_update, encode

NAMES, ERRORS = st.sampled_from(["tenant-1", "one"]), st.floats(0, 100, width=32)


@given(NAMES, ERRORS, st.integers(10**15, 4 * 10**15))
def test_a_template_gives_what_the_encoder_gives(tenant: str, error: float, ts: int) -> None:
    value = Template("state", len(tenant)).value(tenant.encode(), struct.pack("<f", error), ts)
    assert value == encode(UPDATE_HEADER, UPDATE, update(tenant, "state", error, ts))


def test_names_have_one_length_however_many_there_are() -> None:
    assert len({len(name) for name in tenant_names(1_000_001)}) == 1
    assert tenant_names(2) == ["tenant-000000", "tenant-000001"]


def test_updates_are_as_many_as_asked_rising_and_of_all_tenants() -> None:
    given_updates = list(updates(1000, tenants=7, seed=3))
    decoded = [decode_update(value) for _, value in given_updates]
    assert len(decoded) == 1000
    assert all(
        key.decode() == d["tenant"] for (key, _), d in zip(given_updates, decoded, strict=True)
    )
    times = [d["ts"] for d in decoded]
    assert times == sorted(times)
    assert len({(d["tenant"], d["domain"]) for d in decoded}) == 7 * len(DOMAINS)


def test_no_domain_goes_stale_however_many_tenants() -> None:
    decoded = [decode_update(value) for _, value in updates(6000, tenants=1000, seed=3)]
    assert decoded[-1]["ts"] - decoded[0]["ts"] <= 2 * FRESH_SPAN_US


def test_the_same_seed_gives_the_same_observations() -> None:
    keys = [key for key, _ in observations(100, tenants=5, seed=1, dim=16)]
    assert keys == [key for key, _ in observations(100, tenants=5, seed=1, dim=16)]
