from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.errors import UnknownVersion
from agents.gateway.gateway import UNDELIVERED_MAX
from agents.gateway.marks import marks
from agents.gateway.state import Saved, saved_of
from topics import codec
from topics.catalogue import MESSAGE_BYTES_MAX

ID = "0123456789abcdef0123456789abcdef"
OFFSETS = st.integers(0, 2**63 - 1)


NAMES = st.from_regex(r"[A-Za-z0-9._-]{0,128}", fullmatch=True)


def row(
    next_offset: int, behind: dict[str, int], version: int = 1, asleep: Collection[str] = ()
) -> bytes:
    said = {"next_offset": next_offset, "behind": behind, "topic_id": ID, "version": version}
    return codec.encode("gateway_state", said | {"asleep": marks(behind, asleep)})


@given(OFFSETS, st.dictionaries(NAMES, OFFSETS), st.data())
def test_a_row_comes_back_as_it_was(
    next_offset: int, behind: dict[str, int], data: st.DataObject
) -> None:
    asleep = data.draw(st.sets(st.sampled_from(sorted(behind)))) if behind else set()
    said = Saved(next_offset, behind, frozenset(asleep))
    assert saved_of(row(next_offset, behind, asleep=asleep), ID, "here") == said


def test_a_row_of_before_names_nobody_asleep() -> None:
    old = {"next_offset": 7, "behind": {"t": 3}, "topic_id": ID, "version": 1}
    assert saved_of(codec.encode("gateway_state", old, 1), ID, "here") == Saved(7, {"t": 3})


def test_a_row_about_a_topic_that_was_made_anew_says_nothing() -> None:
    assert saved_of(row(5, {"t": 1}), ID[::-1], "here") == Saved(0, {})


@pytest.mark.parametrize("value", [None, b"", b"{}", row(1, {}, version=2)])
def test_what_a_newer_version_wrote_is_a_named_error(value: bytes | None) -> None:
    with pytest.raises(UnknownVersion, match="here"):
        saved_of(value, ID, "here")


def test_the_largest_row_fits_into_a_record() -> None:
    behind = {f"{k:0128}": 2**62 for k in range(UNDELIVERED_MAX)}
    assert len(row(2**62, behind, asleep=behind)) < MESSAGE_BYTES_MAX - 10_000
