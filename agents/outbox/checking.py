"""Values that may go out: ready Avro is checked, JSON checked and encoded; the rest is refused."""

from collections.abc import Mapping

import numpy as np

from agents.outbox.kernels import JSONB, PAYLOAD, TENANT, VALUE, same
from agents.outbox.rows import Bytes, Ints, Refusal, Rows
from topics import codec
from topics.catalogue import CATALOGUE
from topics.columns import UNKNOWN_SCHEMA, Buffer, Columns, Layout, Reader
from topics.json_encoder import JsonEncoder
from topics.schemas import schemas


class Checker:
    """Checks the values of one topic. For one thread at a time."""

    def __init__(self, topic: str) -> None:
        schema = CATALOGUE[topic].schema
        if schema is None:
            raise ValueError(f"{topic} has no schema")
        self.schema = schema
        self._json = JsonEncoder(schemas().raw(schema), codec.header(schemas().schema_id(schema)))
        self._layout = layout = Layout(schemas().newest(schema))
        self._age = schemas().age
        self._reader = Reader(layout, schemas().writers(schema))
        self._columns = Columns(layout)
        self._tenant = next(field.slot for field in layout.fields if field.name == "tenant")

    def constants(self) -> bytes:
        """What must lie in the buffer that `avro` reads, from now on until this is called again."""
        known = schemas()
        if self._age != known.age:  # a registry told of another's schema meanwhile
            self._age = known.age
            self._reader = Reader(self._layout, known.writers(self.schema))
        return self._reader.constants

    def avro(self, rows: Rows, which: Ints, constants_at: int) -> None:
        """Refuse those of these rows whose value isn't of the topic's schema and their tenant."""
        status = np.zeros(which.shape[0], np.uint8)
        self._columns.clear()
        self._reader.decode(
            rows.b, rows.pos[VALUE, which], rows.length[VALUE, which], status, self._columns,
            constants_at,
        )  # fmt: skip
        n, cols = which.shape[0], self._columns.cols
        mine = np.empty(n, np.uint8)
        same(
            rows.b, which, cols.pos[self._tenant, :n], cols.len[self._tenant, :n],
            rows.pos[TENANT], rows.length[TENANT], mine,
        )  # fmt: skip
        for k in np.flatnonzero((status != 0) | (mine == 0)):
            row = int(which[k])
            final = bool(status[k] != UNKNOWN_SCHEMA)
            rows.refused[row] = Refusal(self._why(rows.text(VALUE, row), int(status[k])), final)

    def _why(self, value: bytes, status: int) -> str:
        if status == 0:
            return "bad_tenant: the payload's tenant isn't the row's"
        try:
            name, _ = codec.decode(value)
        except codec.BadRecord as error:
            return str(error)
        return f"unknown_schema: {name} isn't {self.schema}, the topic's schema"

    def json(self, rows: Rows, which: Ints, out: Buffer, from_j: Bytes, spans: Ints) -> None:
        """Encode the JSON of these rows into `out`; spans[0] and spans[1] say where it lies."""
        known = rows.length[PAYLOAD, which] > 0
        known[known] = rows.b[rows.pos[PAYLOAD, which[known]]] == JSONB
        for row in which[~known]:
            rows.refused[int(row)] = Refusal("bad_json: a jsonb of an unknown version", True)
        which = which[known]
        spans[0, which], spans[1, which] = self._json.encode(
            rows.b,
            (rows.pos[PAYLOAD, which] + 1, rows.length[PAYLOAD, which] - 1),
            (rows.pos[TENANT, which], rows.length[TENANT, which]),
            out,
        )
        from_j[which] = 1
        for row in which[spans[1, which] < 0]:
            self._odd(rows, int(row), out, spans)

    def _odd(self, rows: Rows, row: int, out: Buffer, spans: Ints) -> None:
        """What the kernels left to the row path."""
        try:
            record = codec.from_json(self.schema, rows.text(PAYLOAD, row)[1:])
            if record["tenant"].encode() != rows.text(TENANT, row):
                raise codec.BadRecord("bad_tenant", "the payload's tenant isn't the row's")
            value = codec.encode(self.schema, record)
        except codec.BadRecord as error:
            rows.refused[row] = Refusal(str(error), True)
            spans[:, row] = 0
            return
        spans[0, row], spans[1, row] = out.append(value), len(value)


def checkers(topics: Mapping[str, int]) -> dict[bytes, Checker]:
    """A checker for each topic of the catalogue that events are for and the broker has."""
    found = {}
    for name in topics:
        fields = schemas().newest(CATALOGUE[name].schema or "")["fields"]
        if any(field["name"] == "tenant" for field in fields):
            found[name.encode()] = Checker(name)
    return found
