"""A columnar state: rows out and in, settings, forgetting, and giving memory back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from tests.unit.agents.kit.columnar_state import BLANK, SCHEMA, STORED, Held, Row, held
from topics import codec
from topics.columns import Columns, Reader
from topics.schemas import schemas

NAMES = [f"{tenant}/{domain}" for tenant in ("a", "b", "ü") for domain in ("x", "y")]
WHOLE = st.integers(-(2**63), 2**63 - 1)
NUMBER = st.floats(allow_nan=False)
KEY = {name: name.encode().replace(b"/", b"\x1f") for name in NAMES}


@st.composite
def rows(draw: Any) -> Row:
    """A row that a table of `columnar_state` could have written."""
    return BLANK | {
        "seen": draw(WHOLE), "touched": draw(st.integers(0, 2**40)), "start": draw(WHOLE),
        "start_ts": draw(WHOLE), "boundaries": draw(st.integers(0, 100)),
        "measured": draw(st.integers(-(2**31), 2**31 - 1)), "error_sum": draw(NUMBER),
        "confidence_sum": draw(NUMBER), "peak": draw(st.floats(-1.0, 9.0)), "wild": 7,
        "leader": draw(st.sampled_from(["", "x", "leader", "ä" * 40])),
        "counts": draw(st.lists(WHOLE, min_size=2, max_size=2)),
        "numbers": draw(st.lists(NUMBER, min_size=3, max_size=3)),
    }  # fmt: skip


TENANT = BLANK | {"wild": -1}
tables = st.dictionaries(st.sampled_from(sorted(KEY.values())), rows(), max_size=6)
own = st.dictionaries(
    st.sampled_from(["low", "low@x", "low@y", "forget_after_s"]), st.floats(1.0, 10.0), max_size=3
)


def with_tenants(given_rows: dict[bytes, Row], values: dict[str, float]) -> dict[bytes, Row]:
    """The rows, those of their tenants, and settings of the first of them and of everybody."""
    found = dict(given_rows)
    for k, key in enumerate(sorted(given_rows)):
        some: Row = {"seen": k, "touched": 5, "leader": "x" if k else "", "settings": {}}
        found.setdefault(key.split(b"\x1f")[0], TENANT | some)
    for name in (b"a", b"*"):
        if values and (name in found or name == b"*"):
            found[name] = found.get(name, TENANT) | {"settings": dict(sorted(values.items()))}
    return dict(sorted(found.items()))


@few(max_examples=60, deadline=None)
@given(tables, own, st.randoms(use_true_random=False))
def test_rows_in_and_out_are_the_identity(
    domains: dict[bytes, Row], values: dict[str, float], random: Any
) -> None:
    want = with_tenants(domains, values)
    shuffled = list(want.items())
    random.shuffle(shuffled)
    one = Held().load(shuffled)
    assert one.all() == want
    assert one.changed() == {}
    assert one.domains.living == len(domains)
    split = len(shuffled) // 2
    assert Held().load(shuffled[:split]).load(shuffled[split:]).all() == want


@few(max_examples=30, deadline=None)
@given(tables, tables)
def test_the_last_row_of_a_key_counts(before: dict[bytes, Row], after: dict[bytes, Row]) -> None:
    old, new = with_tenants(before, {}), with_tenants(after, {})
    gone: list[tuple[bytes, Row | None]] = [(key, None) for key in old if key not in new]
    log = [*old.items(), *sorted(gone, key=lambda one: b"\x1f" not in one[0]), *new.items()]
    one = Held().load(log)
    other = Held()
    for line in log:
        other.load([line])
    assert one.all() == other.all() == new
    assert one.store.tenants.living == other.store.tenants.living


@few(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["find", "set", "tick", "tidy"]),
                          st.sampled_from(NAMES), st.integers(0, 300)), max_size=30))  # fmt: skip
def test_what_changed_is_the_state_in_pieces(told: list[tuple[str, str, int]]) -> None:
    one, log, time = Held(), [], 0
    for what, name, number in told:
        if what == "find":
            (r,) = one.find(name)
            one.domains.rows["touched"][r] = time * 1000
            one.domains.rows["leader"][r] = one.store.code(name.encode())
        elif what == "set":
            value = "" if number < 50 else str(number % 10)
            one.store.change_setting(name[:-2], "low" + "@x" * (number % 2), value, time * 1000)
        elif what == "tick":
            time += number
            one.store.forget(time * 1_000_000)
        else:
            log += one.changed().items()
            one.store._dropped = 10**6
            one.store.tidy()
    log += one.changed().items()
    assert one.changed() == {}
    assert Held().load(log).all() == one.all()


@pytest.mark.parametrize("plain", [False, True])
def test_settings_of_a_tenant_its_domain_and_everybody(plain: bool) -> None:
    one = Held(plain=plain)
    a, b = one.find("a/x", "b/x")

    def low() -> list[float]:
        return [one.store.settings.table[one.domains.rows["settings"][r], 0] for r in (a, b)]

    for tenant, name, value, then in (
        ("*", "low", "2", [2, 2]),
        ("a", "low", "3", [3, 2]),
        ("*", "low@x", "4", [3, 4]),
        ("a", "low@x", "5", [5, 4]),
        ("a", "low@y", "6", [5, 4]),
        ("a", "low@x", "", [3, 4]),
        ("*", "low@x", "", [3, 2]),
    ):
        _, of = one.store.change_setting(tenant, name, value, 1)
        assert of.shape[0] == 1 + (tenant == "*")
        assert low() == then
    (c,) = one.find("a/y")
    assert one.store.settings.table[one.domains.rows["settings"][c], 0] == 6
    rows = one.changed()
    assert rows[b"a"] is not None and rows[b"a"]["settings"] == {"low": 3.0, "low@y": 6.0}
    assert (b"b" in one.all()) is False
    one.store.change_setting("nobody", "low", "7", 1)
    one.store.change_setting("nobody", "low", "", 1)
    assert (one.changed()[b"nobody"] is None) is plain
    with pytest.raises(ValueError, match="colour"):
        one.store.change_setting("a", "colour", "1", 1)


def test_silent_domains_leave_in_the_order_of_their_names() -> None:
    one = Held()
    of = one.find("b/y", "a/x", "b/x", "c/x")
    one.domains.rows["touched"][of] = [1000, 1000, 5000, 1000]
    one.store.change_setting("c", "forget_after_s", "1000", 0)
    one.changed()
    assert one.store.deadline() == 101_000_000
    one.store.forget(100_999_999)
    assert one.changed() == {}
    one.store.forget(101_000_000)
    assert list(one.changed().items()) == [(b"a\x1fx", None), (b"b\x1fy", None)]
    assert one.store.deadline() == 105_000_000
    one.store.forget(10**15)
    assert one.domains.living == 0 and set(one.all()) == {b"c"}  # its settings stay
    assert one.store.deadline() is None


def test_memory_is_given_back_and_nothing_of_it_shows() -> None:
    one, other = Held(), Held()
    many = [f"t{k}/d" for k in range(3000)]
    of = one.find(*many)
    one.domains.rows["leader"][of[2990:]] = [one.store.code(b"leader-%d" % k) for k in range(10)]
    one.domains.beside["ring"][of[2999]] = one.store.code(b"in a ring")
    one.domains.rows["touched"][of[2990:]] = 10**9
    one.store.forget(10**12)
    one.changed()
    names, rows = one.store.names.count, one.domains.rows.shape[0]
    before = one.all()
    one.store.tidy()
    assert one.store.names.count < names // 50 and one.domains.rows.shape[0] < rows // 10
    assert one.all() == before
    assert one.find("t2999/d", "new/x").shape == (2,)
    ring = one.domains.beside["ring"][one.find("t2999/d")[0]]
    assert one.store.text(int(ring[0])) == "in a ring"
    assert other.load(one.all().items()).all() == one.all()


BAD = st.integers(-3, 400) | WHOLE


@few(max_examples=150, deadline=None)
@given(st.data())
def test_hostile_rows_touch_nothing_else(data: Any) -> None:
    """Any number anywhere in the columns: an error, or rows; another name's row stays."""
    kept = BLANK | {"counts": [1, 2], "numbers": [1.0, 2.0, 3.0], "wild": 7, "peak": 1.0}
    one = Held().load([(KEY["b/x"], kept)])
    before = one.all()[KEY["b/x"]]
    lines: list[tuple[bytes, Row | None]] = [(KEY["a/x"], kept), (b"a", TENANT), (KEY["a/y"], None)]
    columns, arrays = held(lines)
    buf, pos, size, gone = arrays
    targets = [columns.cols.i, columns.cols.pos, columns.cols.len, columns.cols.at,
               columns.cols.cnt, pos, size]  # fmt: skip
    for _ in range(data.draw(st.integers(1, 4))):
        target = data.draw(st.sampled_from(targets))
        at = tuple(data.draw(st.integers(0, n - 1)) for n in target.shape)
        target[at] = data.draw(BAD)
    try:
        one.store.load_rows(columns, 0, 3, buf, pos, size, gone)
    except ValueError as error:
        assert "state row" in str(error) or "UTF-8" in str(error)
        return
    found = one.all()
    assert found[KEY["b/x"]] == before or KEY["b/x"] == buf[pos[0] :][: size[0]].tobytes()
    assert one.find("b/x").shape == (1,)


@pytest.mark.parametrize(
    "change",
    [{"boundaries": 101}, {"boundaries": -1}, {"peak": 9.5}, {"peak": float("nan")},
     {"counts": [1]}, {"numbers": [1.0] * 4}, {"measured": 2**31}],
)  # fmt: skip
def test_an_impossible_row_is_named(change: Row) -> None:
    row = BLANK | {"counts": [1, 2], "numbers": [1.0, 2.0, 3.0], "peak": 0.0} | change
    with pytest.raises(ValueError, match=r"row of b'a\\x1fx' contradicts itself"):
        Held().load([(KEY["a/x"], row)])


@pytest.mark.parametrize("key", [b"\xff\x1fx", b"\xc3"])
def test_a_key_that_is_no_text_is_named(key: bytes) -> None:
    with pytest.raises(ValueError, match="isn't UTF-8"):
        Held().load([(key, None)])


def test_a_row_of_an_older_schema_is_read() -> None:
    row = BLANK | {"counts": [1, 2], "numbers": [1.0, 2.0, 3.0], "seen": 4}
    del row["wild"]
    wire = codec.encode(SCHEMA, row, 1)
    key = KEY["a/x"]
    buf = np.frombuffer(bytearray(wire + key), np.uint8)
    columns, reader = Columns(STORED), Reader(STORED, schemas().writers(SCHEMA))
    status, at, size = np.zeros(1, np.uint8), np.array([0]), np.array([len(wire)])
    reader.decode(buf, at, size, status, columns)
    assert status[0] == 0
    one = Held()
    one.store.load_rows(
        columns, 0, 1, buf, np.array([len(wire)]), np.array([len(key)]), np.zeros(1, np.uint8)
    )
    found = one.all()[key]
    assert found is not None and found["seen"] == 4 and found["wild"] == 7


def test_a_tenant_whose_tombstone_came_first_leaves_with_its_last_domain() -> None:
    row = BLANK | {"counts": [1, 2], "numbers": [1.0, 2.0, 3.0], "peak": 0.0}
    one = Held().load([(b"a", TENANT | {"seen": 3}), (KEY["a/x"], row), (KEY["a/y"], row)])
    one.load([(b"a", None)])
    assert set(one.all()) == {KEY["a/x"], KEY["a/y"]}
    one.load([(KEY["a/x"], None)]).load([(KEY["a/y"], None), (b"unknown", None)])
    assert one.all() == {} and one.store.tenants.living == 1


def test_tenants_without_domains_stay_until_they_are_silent_for_long() -> None:
    alone: Any = {"alone": True, "settings_stay": False, "everyone": True}
    some: Row = {"seen": 7, "touched": 5, "leader": "x" * 9, "settings": {"low": 2.0}}
    want = dict.fromkeys((b"*", b"a", b"b"), TENANT | some)
    want[b"b"] = TENANT | some | {"touched": 10**9, "settings": {}}
    one = Held(**alone).load(want.items())
    assert one.all() == want and one.store.tenants.living == 3
    assert one.store.deadline() == 100_005_000
    one.store.forget(100_005_000)
    assert one.changed() == {b"a": None} and one.all() == {b"*": want[b"*"], b"b": want[b"b"]}
    one.load([(b"*", None)])
    assert one.all() == {b"b": want[b"b"]} and one.store.text(0) == "*"
    one.store.change_setting("*", "low", "3", 6)
    assert one.all()[b"*"] == TENANT | {"touched": 6, "settings": {"low": 3.0}}
