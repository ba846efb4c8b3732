"""State rows side by side: digests that don't depend on an order, and what differs."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from agents.engine.processor import SEP
from agents.kit.setting import EVERYONE
from topics import codec

MODULUS = 1 << 256

Rows = dict[bytes, bytes]  # key -> value on the wire
LOOK_ROWS = 1_000  # between two looks whether it is still wanted: some milliseconds


def _nothing() -> None:
    """Nobody is told."""


class Digest:
    """The sum of the SHA-256 of each row, modulo 2^256: rows can be added in any order.

    Digests of parts add up to that of the whole. After the set hash MSet-Add-Hash (Clarke et al.
    2003); it tells errors apart, not forgers who may choose many rows.
    """

    def __init__(
        self, rows: Mapping[bytes, bytes] | None = None, told: Callable[[], None] = _nothing
    ) -> None:
        """`told` is called now and then while it goes on."""
        self.rows = self._sum = 0
        for key, value in (rows or {}).items():
            if self.rows % LOOK_ROWS == 0:
                told()
            self.add(key, value)

    @classmethod
    def told(cls, rows: int, hex_: str) -> Self:
        """One of so many rows, as its `hex` was written down."""
        found = cls()
        found.rows, found._sum = rows, int(hex_, 16)
        return found

    def add(self, key: bytes, value: bytes) -> None:
        """One row; each key once."""
        one = hashlib.sha256(len(key).to_bytes(4, "big") + key + value).digest()
        self._sum = (self._sum + int.from_bytes(one, "big")) % MODULUS
        self.rows += 1

    def join(self, other: "Digest") -> None:
        """The rows of another one, too."""
        self._sum = (self._sum + other._sum) % MODULUS
        self.rows += other.rows

    @property
    def hex(self) -> str:
        """64 hex digits; of no rows all are 0."""
        return f"{self._sum:064x}"


def tenant_of(key: bytes) -> str:
    """Whose row it is."""
    return key.decode(errors="replace").partition(SEP)[0]


def shown(key: bytes) -> str:
    """A row's key for people: tenant, or tenant/domain."""
    return key.decode(errors="replace").replace(SEP, "/")


def is_of(key: bytes, tenant: str) -> bool:
    """Whether a row is the tenant's, or of one of its domains or entities."""
    name = tenant.encode()
    return key == name or key.startswith(name + SEP.encode())


def counts_for(key: bytes, tenant: str) -> bool:
    """Whether the tenant's state depends on a row: its own, and the settings of everybody."""
    return not tenant or is_of(key, tenant) or key == EVERYONE.encode()


def only(rows: Rows, tenant: str) -> Rows:
    """The tenant's rows; all without one."""
    return {key: value for key, value in rows.items() if not tenant or is_of(key, tenant)}


def by_tenant(rows: Mapping[bytes, bytes]) -> dict[str, Digest]:
    """A digest for each tenant ('*': the settings of everybody), in the order of their names."""
    found: dict[str, Digest] = {}
    for key, value in rows.items():
        found.setdefault(tenant_of(key), Digest()).add(key, value)
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Differing:
    """A row that isn't the same on both sides: field -> (here, there); a side may lack it whole."""

    key: str
    here: bool  # whether there is such a row
    there: bool
    fields: Mapping[str, tuple[Any, Any]]

    def data(self, here: str, there: str) -> dict[str, Any]:
        """As JSON data, the sides by these names."""
        if not (self.here and self.there):
            return {"key": self.key, "only": here if self.here else there}
        fields = {name: {here: a, there: b} for name, (a, b) in self.fields.items()}
        return {"key": self.key, "fields": fields}

    def lines(self, here: str, there: str) -> list[str]:
        """For people."""
        if not (self.here and self.there):
            return [f"{self.key}: only {here if self.here else there}"]
        each = (f"  {name}: {a!s} {here}, {b!s} {there}" for name, (a, b) in self.fields.items())
        return [f"{self.key}:", *each]


def differing(
    here: Rows, there: Rows, *, told: Callable[[], None] = _nothing
) -> list[Differing]:  # fmt: skip
    """The rows that differ, by key. `told` is called now and then while it goes on."""
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    found: list[Differing] = []
    for key in keys:
        if len(found) % LOOK_ROWS == 0:
            told()
        found.append(_differing(key, here.get(key), there.get(key)))
    return found


def _differing(key: bytes, here: bytes | None, there: bytes | None) -> Differing:
    fields: dict[str, tuple[Any, Any]] = {}
    if here is not None and there is not None:
        a, b = record(here), record(there)
        fields = {name: (a.get(name), b.get(name)) for name in unlike(a, b)}
        if not fields:  # such as a NaN of other bits
            fields = {"bytes": (here.hex(), there.hex())}
    return Differing(shown(key), here is not None, there is not None, fields)


def unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterable[str]:
    """The fields that differ."""
    # By their text: 0.0 and -0.0 are equal as numbers, and NaN isn't equal to itself.
    return [name for name in {**a, **b} if repr(a.get(name)) != repr(b.get(name))]


def record(value: bytes) -> dict[str, Any]:
    """A row's fields, as JSON for people has them."""
    name, found = codec.decode_ours(value)
    return codec.to_json(name, found)
