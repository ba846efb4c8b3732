"""JSON texts of one schema to values on the wire, in batches, by compiled kernels.

What comes out is what `codec.encode(name, codec.from_json(name, text))` would give, or nothing:
then the row path has the word, which names the error or encodes it after all.
"""

import io
from typing import Any

import numpy as np
from fastavro import parse_schema, schemaless_writer

from topics import json_kernels as kernels
from topics.arrays import Buffer
from topics.json_kernels import CHILDREN_FEW, FIELD_ROOM, GROWTH, TIME, VECTOR32, VECTOR64, encode
from topics.jsonform import TEXT_BYTES_MAX, default_of
from topics.layout import BYTES, I64, LONG, U8, Type, parse_fields
from topics.schemas import Schema, plain


class JsonEncoder:
    """Encodes by the newest version of a schema that has a text field `tenant`.

    For one thread at a time.
    """

    def __init__(self, schema: Schema, header: bytes) -> None:
        """`schema` as it stands in its file, with logical types; `header` begins each value."""
        program = _Program()
        fields = list(parse_fields(schema))
        for raw, kind in fields:
            program.field(raw, kind)
        self._tenant = next(k for k, (raw, _) in enumerate(fields) if raw["name"] == "tenant")
        self._fields = len(fields)
        for k, (raw, kind) in enumerate(fields):
            if kind.item is not None:
                program.items(k, raw["name"], kind.item)
        self._ops = np.array(program.ops, np.int64)
        self._symbols = np.array(program.symbols or [(0, 0)], np.int64)
        self._text = np.frombuffer(program.text, np.uint8)
        self._header = np.frombuffer(bytearray(header), np.uint8)
        self._room = len(header) + program.defaults + FIELD_ROOM * len(fields)
        self._found = np.zeros((len(fields), 3), np.int64)
        self._keys = np.zeros(2 * CHILDREN_FEW + 2, np.int64)

    def encode(
        self, b: U8, texts: tuple[I64, I64], tenants: tuple[I64, I64], out: Buffer
    ) -> tuple[I64, I64]:
        """Append the values of JSON texts to `out`: where each begins, and its size.

        texts and tenants are (positions, lengths) of spans in b; a text must be of its tenant.
        Size -1: the row path has the word.
        """
        n = texts[0].shape[0]
        at, size = np.empty((2, n), np.int64)
        longest = int(texts[1].max(initial=0))
        row = 0
        while row < n:
            out.reserve(GROWTH * min(longest, TEXT_BYTES_MAX) + self._room)
            row, out.used = encode(
                b, row, *texts, *tenants, TEXT_BYTES_MAX, self._ops, self._fields, self._tenant,
                self._symbols, self._text, self._header, self._room, out.data, out.used, at, size,
                self._found, self._keys,
            )  # fmt: skip
        return at, size


class _Program:
    """Rows of a program, and the bytes that they point into: names, defaults, symbols."""

    def __init__(self) -> None:
        self.ops: list[list[int]] = []
        self.symbols: list[tuple[int, int]] = []
        self.text = bytearray(kernels.WORDS)
        self.defaults = 0  # bytes of all defaults together

    def field(self, raw: dict[str, Any], kind: Type) -> None:
        """A row for a field."""
        op = self._op(kind)
        body = raw["type"]
        if isinstance(body, list):
            body = next(branch for branch in body if branch != "null")
        if isinstance(body, dict) and "logicalType" in body:
            op[kernels.KIND] = TIME if kind.kind == LONG else BYTES
        elif isinstance(body, dict) and "vector" in body:
            op[kernels.KIND] = VECTOR32 if body["vector"] == "float32" else VECTOR64
        op[kernels.NULL_AT] = kind.null_branch if kind.nullable else -1
        op[kernels.NAME_AT], op[kernels.NAME_LEN] = self._put(raw["name"].encode())
        default = _default(raw)
        op[kernels.DEFAULT_LEN] = -1
        if default is not None:
            op[kernels.DEFAULT_AT], op[kernels.DEFAULT_LEN] = self._put(default)
            self.defaults += len(default)
        self.ops.append(op)

    def items(self, field: int, name: str, kind: Type) -> None:
        """A row for the items of a map or an array."""
        self.ops[field][kernels.ITEM] = len(self.ops)
        self.ops.append(self._op(kind))

    def _op(self, kind: Type) -> list[int]:
        op = [0] * kernels.WIDTH
        op[kernels.KIND] = kind.kind
        op[kernels.SYMBOL_AT], op[kernels.SYMBOLS] = len(self.symbols), len(kind.symbols)
        self.symbols += [self._put(symbol.encode()) for symbol in kind.symbols]
        return op

    def _put(self, content: bytes) -> tuple[int, int]:
        at = len(self.text)
        self.text += content
        return at, len(content)


def _default(field: dict[str, Any]) -> bytes | None:
    """A field's default as Avro; None without one."""
    if "default" not in field:
        return None
    one = {"name": field["name"], "type": plain(field["type"])}
    schema = parse_schema({"type": "record", "name": "one", "fields": [one]})
    out = io.BytesIO()
    schemaless_writer(out, schema, {field["name"]: default_of(field)})
    return out.getvalue()
