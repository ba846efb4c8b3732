"""What a record is, and whether it may be folded here: the kernels beside plain Python."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.engine import reasons
from agents.engine.checks import NAME_MAX, STRING_MAX, TS_AHEAD, TS_MIN, admit, classify
from topics import codec
from topics.partition import partition_of

pytestmark = pytest.mark.kernel

LOG_MS = 1_760_000_000_000
PARTITIONS = 3
RESERVED = np.array([900, 901], np.int64)
NAME = re.compile(rb"[A-Za-z0-9._-]{1,128}")
TENANT, DOMAIN, NOTE = range(3)  # rows of the spans
SEP = b"\x1f"


class Spans:
    """Byte strings in one buffer."""

    def __init__(self) -> None:
        self.bytes = bytearray(b"#")

    def put(self, parts: Sequence[bytes | None]) -> tuple[Any, Any]:
        pos, size = [], []
        for part in parts:
            pos.append(len(self.bytes))
            size.append(-1 if part is None else len(part))
            self.bytes += part or b""
        return np.array(pos, np.int64), np.array(size, np.int64)

    @property
    def data(self) -> Any:
        return np.frombuffer(bytes(self.bytes), np.uint8).copy()


def classified(values: Sequence[bytes | None]) -> list[int]:
    spans = Spans()
    pos, size = spans.put(values)
    status = np.full(len(values) + 1, 99, np.uint8)
    odd = classify(spans.data, pos, size, len(values), RESERVED, status)
    assert status[-1] == 99
    assert odd == np.count_nonzero(status[:-1])
    return [int(code) for code in status[:-1]]


def plainly(value: bytes | None) -> int:
    if value is None:
        return reasons.NULL_VALUE
    if re.match(rb"(\xef\xbb\xbf)?[ \t\r\n]*\{", value):
        return reasons.JSON
    control = len(value) >= 5 and value[:5] in (codec.header(900), codec.header(901))
    return reasons.CONTROL if control else reasons.OK


@given(
    values=st.lists(
        st.none()
        | st.binary(max_size=8)
        | st.builds(
            lambda start, rest: start + b"{" + rest,
            st.sampled_from([b"", b" ", b"\r\n\t", b"\xef\xbb\xbf", b"\xef\xbb\xbf ", b"\x0b"]),
            st.binary(max_size=6),
        )
        | st.builds(
            lambda code, rest: codec.header(code) + rest,
            st.sampled_from([0, 1, 132, 899, 900, 901, 902, 2**31 - 1]),
            st.binary(max_size=4),
        ),
        max_size=20,
    )
)
@settings(deadline=None)
def test_kinds_of_records(values: list[bytes | None]) -> None:
    assert classified(values) == [plainly(value) for value in values]


def test_half_a_header_at_the_end_of_the_bytes_is_not_looked_beyond() -> None:
    for end in range(5):
        assert classified([codec.header(900)[:end]]) == [reasons.OK]


def test_spans_outside_the_bytes_are_left_to_the_reader() -> None:
    data, status = np.frombuffer(b"{{{", np.uint8).copy(), np.zeros(3, np.uint8)
    pos, size = np.array([-1, 3, 2]), np.array([2, 1, 2])
    assert classify(data, pos, size, 3, RESERVED, status) == 0
    assert not status.any()


class Record:
    """A record with three strings, as it would lie in a batch."""

    def __init__(
        self,
        tenant: bytes = b"tenant-1",
        domain: bytes = b"state",
        note: bytes = b"",
        ts: int = LOG_MS * 1000,
        key: bytes | None = b"tenant-1",
    ) -> None:
        self.tenant, self.domain, self.note, self.ts, self.key = tenant, domain, note, ts, key

    def verdict(self, partition: int, of_settings: bool = False) -> int:
        """The same rules in plain Python."""
        if not NAME.fullmatch(self.tenant) and not (of_settings and self.tenant == b"*"):
            return reasons.TENANT
        if not NAME.fullmatch(self.domain):
            return reasons.DOMAIN
        if max(len(self.tenant), len(self.domain), len(self.note)) > STRING_MAX:
            return reasons.LONG_STRING
        if not TS_MIN <= self.ts <= LOG_MS * 1000 + TS_AHEAD:
            return reasons.TS_RANGE
        home = partition_of(self.tenant, PARTITIONS)
        whose = self.key
        if of_settings and whose is not None:
            whose = whose.partition(SEP)[0]
        return reasons.OK if home == partition and whose == self.tenant else reasons.MISROUTED


def admitted(
    records: Sequence[Record], partition: int, status: Sequence[int] = (), of_settings: bool = False
) -> tuple[list[int], list[int]]:
    """The kernel's verdicts and destinations."""
    n, spans = len(records), Spans()
    strings = [
        spans.put([getattr(r, name) for r in records]) for name in ("tenant", "domain", "note")
    ]
    kpos, klen = spans.put([r.key for r in records])
    pos, size = np.array([s[0] for s in strings]), np.array([s[1] for s in strings])
    found = np.array(status or [0] * n, np.uint8)
    dest = np.full(n, -1, np.int64)
    good, astray = admit(
        spans.data, n, pos, size, np.arange(3), np.full(3, STRING_MAX), TENANT, DOMAIN,
        np.array([r.ts for r in records]), np.full(n, LOG_MS), kpos, klen,
        partition, PARTITIONS, int(of_settings), found, dest,
    )  # fmt: skip
    assert good == np.count_nonzero(found == reasons.OK)
    assert astray == np.count_nonzero(found == reasons.MISROUTED)
    return found.tolist(), dest.tolist()


names = (
    st.text("abzAZ09._-", min_size=1, max_size=12).map(str.encode)
    | st.binary(max_size=4)
    | st.sampled_from([b"", b"*", b"n" * NAME_MAX, b"n" * (NAME_MAX + 1), b"a/b", "é".encode()])
)
times = st.integers(TS_MIN, LOG_MS * 1000 + TS_AHEAD) | st.integers(-(2**63), 2**63 - 1)


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    tenant = draw(names)
    keys = [
        tenant,
        tenant,
        tenant,
        None,
        tenant + b"x",
        tenant[:-1],
        tenant + SEP,
        tenant + b"\x1fx",
    ]
    key = draw(st.sampled_from(keys) | names)
    note = draw(st.sampled_from([b"", b"n" * STRING_MAX, b"n" * (STRING_MAX + 1)]))
    return Record(tenant, draw(names), note, draw(times), key)


@given(
    records=st.lists(any_record(), min_size=1, max_size=10), partition=st.integers(0, 2),
    of_settings=st.booleans(),
)  # fmt: skip
@example(records=[Record(ts=TS_MIN), Record(ts=TS_MIN - 1)], partition=0, of_settings=False)
@example(
    records=[Record(ts=LOG_MS * 1000 + TS_AHEAD), Record(ts=LOG_MS * 1000 + TS_AHEAD + 1)],
    partition=0,
    of_settings=False,
)
@settings(deadline=None)
def test_verdicts_are_those_of_plain_python(
    records: list[Record], partition: int, of_settings: bool
) -> None:
    status, dest = admitted(records, partition, of_settings=of_settings)
    assert status == [record.verdict(partition, of_settings) for record in records]
    for record, verdict, home in zip(records, status, dest, strict=True):
        astray = verdict == reasons.MISROUTED
        assert home == (partition_of(record.tenant, PARTITIONS) if astray else -1)


@pytest.mark.parametrize("tenant", [b"*", b"tenant-1"])
@pytest.mark.parametrize("rest", [b"", SEP, b"\x1fintegrator.margin", b"x"])
def test_of_settings_the_key_goes_on_behind_its_tenant(tenant: bytes, rest: bytes) -> None:
    one, home = Record(tenant=tenant, key=tenant + rest), partition_of(tenant, PARTITIONS)
    assert admitted([one], home, of_settings=True)[0] == [
        reasons.MISROUTED if rest == b"x" else reasons.OK
    ]
    otherwise = reasons.MISROUTED if rest else reasons.OK
    assert admitted([one], home)[0] == [reasons.TENANT if tenant == b"*" else otherwise]


def test_only_records_without_a_status_are_looked_at() -> None:
    records = [Record(tenant=b"/"), Record(tenant=b"/")]
    status, _ = admitted(records, 0, [reasons.JSON, 0])
    assert status == [reasons.JSON, reasons.TENANT]


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_of_a_name(byte: int) -> None:
    tenant = b"a" + bytes([byte])
    home = partition_of(tenant, PARTITIONS)
    good = chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "._-")
    status, _ = admitted([Record(tenant=tenant, key=tenant)], home)
    assert status == [reasons.OK if good else reasons.TENANT]
