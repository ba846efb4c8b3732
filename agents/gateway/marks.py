"""Some of a set of names, in few bytes: beside the names themselves a bit for each."""

from collections.abc import Collection, Iterable


def marks(names: Iterable[str], some: Collection[str]) -> bytes:
    """Which of the names are among some: a bit for each, in their order."""
    bits = sum(1 << k for k, name in enumerate(sorted(names)) if name in some)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def chosen(names: Iterable[str], marked: bytes) -> frozenset[str]:
    """The names that `marks` has marked."""
    bits = int.from_bytes(marked, "little")
    return frozenset(name for k, name in enumerate(sorted(names)) if bits >> k & 1)
