"""All memories of a recall node in one file, so that it starts without reading the whole log.

    magic, length of the head, sha-256 of the head
    head: JSON: when it was taken, topic and its id, position of each partition and the last records
          read (trail.py), how vectors are kept, and for each part its place, length and sha-256
    parts: arrays as they are in memory; entries and tenants as lines of JSON

Whatever is wrong with a file it is refused, by name, and the log is read instead: one that is
damaged, of another topic or another way to keep vectors, and one that is older than the log keeps
the traces of what was deleted, for what it holds may be gone from there without a word.
"""

import contextlib
import hashlib
import os
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import orjson

from agents.recall.entry import Entry
from agents.recall.importance import Quantiles, Scale
from agents.recall.memories import Holding, Memories
from agents.recall.shelf import Shelf
from agents.recall.trail import Mark

MAGIC = b"soma-recall-2\n\x00\x00"
ANY_MAGIC = b"soma-recall-"
HEAD = struct.Struct("<q32s")
HEAD_BYTES_MAX = 1 << 28
ALIGNED = 64
LINES = 5000  # entries of one part's line
FRESH_S = 23 * 3600.0  # the broker keeps a tombstone for a day (delete.retention.ms), less an hour
AHEAD_S = 60.0  # that clocks may differ
FIELDS = tuple(name for name in Entry.__dataclass_fields__ if name not in ("shelf", "place"))


class RefusedError(Exception):
    """A snapshot that isn't used; the text says why."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a snapshot is of."""

    topic: str
    topic_id: str
    positions: Mapping[int, int]  # partition -> next offset
    folded: Mapping[int, int]  # partition -> newest event's offset that a row said
    at: float  # time.time()
    trails: Mapping[int, Iterable[Mark]] = field(default_factory=dict)  # partition -> read last


def save(path: Path, taken: Taken, tenants: Mapping[str, Memories], holding: Holding) -> int:
    """Write it in place of the last one; its bytes. OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_suffix(".new")
    with half.open("wb") as file:
        written = _write(file, taken, tenants, holding)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    return written


def load(
    path: Path, topic: str, topic_id: str, holding: Holding
) -> tuple[Taken, dict[str, Memories]]:
    """What a file has. RefusedError; FileNotFoundError if there is none."""
    with path.open("rb") as file:
        try:
            return _read(file, topic, topic_id, holding)
        except (OSError, ValueError, LookupError, TypeError, struct.error) as error:
            raise RefusedError(f"{path} is damaged: {error}") from error
        except RefusedError as error:
            raise RefusedError(f"{path}: {error}") from error


def _kept(holding: Holding) -> dict[str, Any]:
    """How vectors are kept: with another provider or other bits they are to be made anew."""
    provider = holding.provider
    return {"bits": holding.bits, "provider": None if provider is None else provider.revision}


# --- writing ---


def _write(
    file: BinaryIO, taken: Taken, tenants: Mapping[str, Memories], holding: Holding
) -> int:  # fmt: skip
    """Parts first, behind an empty head; the place of the true one is written last."""
    file.write(MAGIC.ljust(ALIGNED, b"\0"))
    parts: dict[str, Any] = {}
    told: list[dict[str, Any]] = []
    for name, one in tenants.items():
        number = len(told)
        told.append(
            {
                "tenant": name, "entries": len(one), "count": one.quantiles.count,
                "scale": asdict(one.quantiles.scale), "unusable": one.unusable,
                "halves": [*one.halves()],
                "shelves": [
                    {"dimension": s.dimension, "revision": s.revision} for s in one.shelves
                ],
            }
        )  # fmt: skip
        parts[f"{number}/sample"] = _part(file, [one.quantiles.sample.data])
        parts[f"{number}/entries"] = _part(file, _lines(one))
        for k, shelf in enumerate(one.shelves):
            places = np.fromiter((e.place for e in shelf.entries()), np.intp, len(shelf))
            for plane, array in shelf.vectors.planes().items():
                parts[f"{number}/{k}/{plane}"] = _part(file, _rows(array, places))
    parts["tenants"] = _part(file, (orjson.dumps(one, default=_bytes) + b"\n" for one in told))
    head = orjson.dumps(
        {
            "taken": {
                "topic": taken.topic, "topic_id": taken.topic_id, "at": taken.at,
                "positions": _texts(taken.positions), "folded": _texts(taken.folded),
                "trails": {str(p): [[*one] for one in some] for p, some in taken.trails.items()},
            },
            "kept": _kept(holding), "parts": parts,
        }
    )  # fmt: skip
    at = file.tell()
    file.write(HEAD.pack(len(head), hashlib.sha256(head).digest()) + head)
    end = file.tell()
    file.seek(len(MAGIC))
    file.write(struct.pack("<q", at))
    return end


def _part(file: BinaryIO, pieces: Iterable[Any]) -> dict[str, Any]:
    """Append a part; where it is, how long, and its digest."""
    file.write(b"\0" * (-file.tell() % ALIGNED))
    at, digest = file.tell(), hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        file.write(piece)
    return {"at": at, "length": file.tell() - at, "sha256": digest.hexdigest()}


def _lines(one: Memories) -> Iterator[bytes]:
    """Entries, those of a shelf in the order of its vectors."""
    rows: list[list[Any]] = []
    shelved = (entry for shelf in one.shelves for entry in shelf.entries())
    loose = (entry for entry in one.entries() if entry.shelf < 0)
    for entry in (*shelved, *loose):
        rows.append([entry.shelf, *(getattr(entry, name) for name in FIELDS)])
        if len(rows) == LINES:
            yield orjson.dumps(rows) + b"\n"
            rows = []
    yield orjson.dumps(rows) + b"\n"


def _rows(array: Any, places: Any) -> Iterator[Any]:
    for begin in range(0, len(places), LINES):
        yield np.ascontiguousarray(array[places[begin : begin + LINES]]).reshape(-1).view(np.uint8)


def _texts(numbers: Mapping[int, int]) -> dict[str, int]:
    return {str(name): number for name, number in numbers.items()}


def _bytes(value: Any) -> str:
    """Vectors of contents that wait for their heads."""
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError


# --- reading ---


def _read(
    file: BinaryIO, topic: str, topic_id: str, holding: Holding
) -> tuple[Taken, dict[str, Memories]]:
    head = _head(file)
    said = head["taken"]
    taken = Taken(
        said["topic"], said["topic_id"], _numbers(said["positions"]), _numbers(said["folded"]),
        float(said["at"]),
        {int(p): [Mark(*one) for one in some] for p, some in said["trails"].items()},
    )  # fmt: skip
    _fits(taken, head["kept"], topic, topic_id, holding)
    parts, found = head["parts"], {}
    for number, line in enumerate(_whole(file, parts["tenants"]).splitlines()):
        told = orjson.loads(line)
        found[told["tenant"]] = _tenant(file, parts, number, told, holding)
    return taken, found


def _head(file: BinaryIO) -> dict[str, Any]:
    first = file.read(ALIGNED)
    if first.startswith(ANY_MAGIC) and not first.startswith(MAGIC):
        raise RefusedError("is a snapshot of another version")
    if not first.startswith(MAGIC) or len(first) < ALIGNED:
        raise RefusedError("is no snapshot")
    file.seek(struct.unpack_from("<q", first, len(MAGIC))[0])
    length, digest = HEAD.unpack(file.read(HEAD.size))
    head = file.read(length) if 0 < length <= HEAD_BYTES_MAX else b""
    if hashlib.sha256(head).digest() != digest:
        raise RefusedError("is damaged: its head isn't as it was written")
    found: dict[str, Any] = orjson.loads(head)
    return found


def _fits(taken: Taken, kept: dict[str, Any], topic: str, topic_id: str, holding: Holding) -> None:
    """RefusedError unless it may be used here and now."""
    age = time.time() - taken.at
    if taken.topic != topic or taken.topic_id != topic_id:
        raise RefusedError(f"is of another topic than {topic} as it is now ({topic_id})")
    if kept != _kept(holding):
        raise RefusedError(f"keeps vectors otherwise: {kept}, not {_kept(holding)}")
    if age > FRESH_S or age < -AHEAD_S:
        raise RefusedError(
            f"is {age / 3600:.1f} h old: what was deleted since may have left no trace in the log"
        )


def _whole(file: BinaryIO, part: dict[str, Any]) -> bytearray:
    """A part's bytes, for an array to have. RefusedError unless they are as they were written."""
    size = os.fstat(file.fileno()).st_size
    if not 0 <= part["at"] <= part["at"] + part["length"] <= size:
        raise RefusedError("is damaged: it ends too soon")
    data = bytearray(part["length"])
    file.seek(part["at"])
    file.readinto(data)  # type: ignore[attr-defined]
    if hashlib.sha256(data).hexdigest() != part["sha256"]:
        raise RefusedError("is damaged: a part isn't as it was written")
    return data


def _tenant(
    file: BinaryIO, parts: dict[str, Any], number: int, told: dict[str, Any], holding: Holding
) -> Memories:
    sample = np.frombuffer(_whole(file, parts[f"{number}/sample"]), np.float64)
    quantiles = Quantiles(sample, told["count"], Scale(**told["scale"]))
    made = Memories(holding, quantiles=quantiles, unusable=told["unusable"])
    made.take_halves(told["halves"])
    for one in told["shelves"]:
        made.shelves.append(Shelf(one["dimension"], one["revision"], holding.bits, holding.law))
    shelved: list[list[Entry]] = [[] for _ in made.shelves]
    for line in _whole(file, parts[f"{number}/entries"]).splitlines():
        for shelf, *fields in orjson.loads(line):
            entry = Entry(*fields)
            entry.shelf = shelf
            if shelf < 0:
                made.add(entry, None)
            else:
                shelved[shelf].append(entry)
    for k, entries in enumerate(shelved):
        planes = {}
        for plane, array in made.shelves[k].vectors.planes().items():
            data = np.frombuffer(_whole(file, parts[f"{number}/{k}/{plane}"]), array.dtype)
            planes[plane] = data.reshape(len(entries), *array.shape[1:])
        made.restore(k, entries, planes)
    return made


def _numbers(texts: Mapping[str, int]) -> dict[int, int]:
    return {int(name): int(number) for name, number in texts.items()}


def discard(path: Path) -> None:
    """Put a refused one aside, for people to look at."""
    with contextlib.suppress(OSError):
        path.replace(path.with_suffix(".refused"))
