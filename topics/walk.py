"""The strict reading of Avro bytes, before fastavro makes objects of them.

fastavro lets a negative union or enum index count from the end, as Python does, and believes any
count. So each value is first walked through here: the same bytes are refused as by the column
kernels (`topics.columns`), and nothing is allocated for a count that can't be true.

Source: Apache Avro specification 1.12, "Binary Encoding". Schemas are flat (see `compat.shape`).
"""

from typing import Any

CHILDREN_MAX = 65_536  # items of all maps and arrays of one record


class BadRecord(Exception):
    """A value that can't be taken. `reason` is a code for dead letters, `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Walk:
    """One pass over one value; `BadRecord` unless it uses up all bytes, rightly."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.children = 0

    def record(self, schema: dict[str, Any]) -> None:
        """Walk all fields of a record and stand at the end of the bytes."""
        for field in schema["fields"]:
            try:
                self.value(field["type"])
            except BadRecord as error:
                raise BadRecord(error.reason, f"{field['name']}: {error.detail}") from None
        if self.at != len(self.data):
            raise _bad(f"{len(self.data) - self.at} byte(s) too many")

    def value(self, schema: Any) -> None:
        """Walk one value of any type that a flat schema has."""
        if isinstance(schema, list):
            self.value(schema[self._index(len(schema), "a union")])
            return
        kind = schema["type"] if isinstance(schema, dict) else schema
        if kind == "string":
            self._text()
        elif kind == "bytes":
            self._span()
        elif kind == "long":
            self._long()
        elif kind == "int":
            self._int()
        elif kind in ("float", "double"):
            self._skip(4 if kind == "float" else 8)
        elif kind == "boolean":
            self._boolean()
        elif kind == "enum":
            self._index(len(schema["symbols"]), "an enum")
        elif kind == "map":
            self._blocks(schema["values"], keyed=True)
        elif kind == "array":
            self._blocks(schema["items"], keyed=False)
        elif kind != "null":
            raise TypeError(f"a flat schema has no {kind!r}")

    def _long(self) -> int:
        """A zigzag varint of at most 64 bits."""
        raw = shift = 0
        while True:
            if self.at >= len(self.data):
                raise _bad("ends too early")
            byte = self.data[self.at]
            self.at += 1
            if shift == 63 and byte > 1:
                raise _bad("a number of more than 64 bits")
            raw |= (byte & 0x7F) << shift
            if byte < 0x80:
                return raw >> 1 ^ -(raw & 1)
            shift += 7

    def _int(self) -> None:
        if not -(1 << 31) <= self._long() < 1 << 31:
            raise _bad("an int of more than 32 bits")

    def _skip(self, size: int) -> None:
        if not 0 <= size <= len(self.data) - self.at:
            raise _bad(f"claims {size} bytes where {len(self.data) - self.at} are left")
        self.at += size

    def _span(self) -> None:
        self._skip(self._long())

    def _text(self) -> None:
        size = self._long()
        self._skip(size)
        try:
            self.data[self.at - size : self.at].decode()
        except UnicodeDecodeError as error:
            raise BadRecord("bad_utf8", f"not UTF-8: {error.reason}") from None

    def _boolean(self) -> None:
        self._skip(1)
        if self.data[self.at - 1] > 1:
            raise _bad(f"{self.data[self.at - 1]} for a boolean")

    def _index(self, count: int, what: str) -> int:
        index = self._long()
        if not 0 <= index < count:
            raise _bad(f"index {index} of {what} with {count}")
        return index

    def _blocks(self, item: Any, *, keyed: bool) -> None:
        while count := self._long():
            stop = -1
            if count < 0:  # the block's size in bytes follows, for those that skip
                count = -count
                size = self._long()
                stop = self.at + size
                if not 0 <= size <= len(self.data) - self.at:
                    raise _bad(f"claims a block of {size} bytes")
            self.children += count
            if self.children > CHILDREN_MAX:
                raise _bad(f"more than {CHILDREN_MAX} items")
            if count * (2 if keyed else 1) > len(self.data) - self.at:
                raise _bad(f"claims {count} items where {len(self.data) - self.at} bytes are left")
            for _ in range(count):
                if keyed:
                    self._text()
                self.value(item)
            if stop >= 0 and self.at != stop:
                raise _bad("a block of another size than it claims")


def _bad(detail: str) -> BadRecord:
    return BadRecord("bad_avro", detail)
