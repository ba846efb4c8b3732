"""Digests and differences of rows."""

from hypothesis import given
from hypothesis import strategies as st

from agents.history.rows import Digest, by_tenant, counts_for, differing, is_of, only
from topics import codec

rows = st.dictionaries(st.binary(max_size=8), st.binary(max_size=8), max_size=12)


def count(total: int) -> bytes:
    return codec.encode("position", {"next_offset": total, "seen": 0, "topic_id": "", "epoch": 1})


@given(rows, st.randoms())
def test_the_order_doesnt_matter_and_parts_add_up(found: dict[bytes, bytes], order: object) -> None:
    keys = list(found)
    order.shuffle(keys)  # type: ignore[attr-defined]
    whole, parts = Digest(found), Digest()
    for key in keys:
        parts.join(Digest({key: found[key]}))
    assert (parts.hex, parts.rows) == (whole.hex, len(found))
    total = Digest()
    for one in by_tenant(found).values():
        total.join(one)
    assert total.hex == whole.hex


@given(rows, rows)
def test_other_rows_have_another_digest(a: dict[bytes, bytes], b: dict[bytes, bytes]) -> None:
    assert (Digest(a).hex == Digest(b).hex) == (a == b)


def test_where_a_key_ends_counts() -> None:
    assert Digest({b"a": b"bc"}).hex != Digest({b"ab": b"c"}).hex
    assert Digest().hex == "0" * 64


def test_a_tenants_rows_are_its_own_and_those_of_its_domains() -> None:
    found = {b"a": b"1", b"a\x1fd": b"2", b"ab": b"3", b"*": b"4"}
    assert only(found, "a") == {b"a": b"1", b"a\x1fd": b"2"} and only(found, "") == found
    assert is_of(b"a\x1fd", "a") and not is_of(b"ab", "a")
    assert counts_for(b"*", "a") and not counts_for(b"ab", "a") and counts_for(b"ab", "")


def test_what_differs_is_named_by_field() -> None:
    one, two = {b"a": count(1), b"b\x1fd": count(2)}, {b"a": count(3), b"c": count(2)}
    a, b, c = differing(one, two)
    assert a.data("live", "rebuilt") == {
        "key": "a", "fields": {"next_offset": {"live": 1, "rebuilt": 3}}
    }  # fmt: skip
    assert b.data("live", "rebuilt") == {"key": "b/d", "only": "live"}
    assert c.lines("live", "rebuilt") == ["c: only rebuilt"]
    assert a.lines("live", "rebuilt") == ["a:", "  next_offset: 1 live, 3 rebuilt"]
    assert differing(one, dict(one)) == []
