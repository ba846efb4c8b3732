"""The journal's folder: numbered SQLite files, one process at a time, and what is packed away.

    lock                        who has it (flock)
    00000007.sqlite             a file; the highest number is written, the others are drained
    00000006-15234.sqlite.zst   a drained one with 15,234 rows, packed
    00000005.sqlite.corrupt-1   set aside: `sqlite3 FILE .recover` may read it

A local disk, please: SQLite's write-ahead log isn't for network file systems.
"""

import fcntl
import os
import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cramjam

from stores.journal_file import (
    JournalCorruptError,
    JournalDiskError,
    JournalError,
    JournalFile,
    JournalLockedError,
    JournalRow,
    State,
    packed_rows,
    sync_folder,
)

PLAIN = re.compile(r"(\d{8})\.sqlite")
PACKED = re.compile(r"(\d{8})-(\d{1,10})\.sqlite\.zst")
ASIDE = re.compile(r"\d{8}(-\d{1,10})?\.sqlite(\.zst)?\.corrupt-\d+")
TRY_BYTES = 1 << 20
BESIDE = ("-wal", "-shm")  # SQLite's own, next to a file


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed file: all its rows are drained."""

    path: Path
    number: int
    rows: int

    def unpacked(self) -> bytes:
        """The SQLite file it was. `JournalCorruptError` if it can't be unpacked."""
        try:
            return bytes(cramjam.zstd.decompress(self.path.read_bytes()))
        except cramjam.DecompressionError as error:
            raise JournalCorruptError(f"{self.path.name} can't be unpacked: {error}") from error
        except OSError as error:
            raise JournalDiskError(f"{self.path.name}: {error.strerror}") from error


class Lock:
    """A folder taken for this process. The system lets go of it however the process ends."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if need be and take it; `JournalLockedError` names who has it."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            self._handle = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        except OSError as error:
            raise JournalDiskError(f"the journal can't use {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.pread(self._handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise JournalLockedError(
                f"the journal in {folder} belongs to the process {who}: to see or change it, ask"
                " that one (/admin/journal)"
            ) from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Let go of it."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def plain_files(folder: Path) -> dict[int, Path]:
    """Number -> file, of those that aren't packed, oldest first."""
    return {int(m[1]): path for path, m in _matching(folder, PLAIN)}


def packed_files(folder: Path) -> dict[int, Packed]:
    """Number -> packed file, oldest first; one whose plain file is there (again) doesn't count."""
    plain = plain_files(folder)
    return {
        int(m[1]): Packed(path, int(m[1]), int(m[2]))
        for path, m in _matching(folder, PACKED)
        if int(m[1]) not in plain
    }


def set_aside_files(folder: Path) -> list[str]:
    """The names of the files that were set aside."""
    return [path.name for path, _ in _matching(folder, ASIDE)]


def _matching(folder: Path, pattern: re.Pattern[str]) -> list[tuple[Path, re.Match[str]]]:
    found = [(path, pattern.fullmatch(path.name)) for path in sorted(folder.glob("[0-9]*"))]
    return [(path, match) for path, match in found if match is not None]


def tidy(folder: Path) -> None:
    """Remove what a process left that was killed while it packed or unpacked."""
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)
    plain = plain_files(folder)
    for path, match in _matching(folder, PACKED):
        if int(match[1]) in plain:
            path.unlink(missing_ok=True)


def file_bytes(path: Path) -> int:
    """What a file takes on the disk, with SQLite's own beside it."""
    total = 0
    for name in (path.name, *(path.name + more for more in BESIDE[:1])):
        try:
            total += path.with_name(name).stat().st_size
        except FileNotFoundError:
            continue  # SQLite removes its log when it likes
    return total


def folder_bytes(folder: Path) -> int:
    """What the journal takes on the disk."""
    paths = [path for pattern in (PLAIN, PACKED, ASIDE) for path, _ in _matching(folder, pattern)]
    return sum(file_bytes(path) for path in paths)


def set_aside(path: Path) -> Path:
    """Give a file that can't be read a name that says so; its new path."""
    n = 1
    while (new := path.with_name(f"{path.name}.corrupt-{n}")).exists():
        n += 1
    path.rename(new)
    for more in BESIDE:  # its log may hold what the file lacks
        beside = path.with_name(path.name + more)
        if beside.exists():
            beside.rename(new.with_name(new.name + more))
    sync_folder(path.parent)
    return new


def pack(path: Path, number: int, rows: int) -> Packed:
    """Pack a settled file (zstd). Killed at any moment, the one or the other is there whole."""
    made = Packed(path.with_name(f"{number:08d}-{rows}.sqlite.zst"), number, rows)
    try:
        _write(made.path, bytes(cramjam.zstd.compress(path.read_bytes())))
        path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise JournalDiskError(f"{path.name} can't be packed: {error.strerror}") from error
    return made


def unpack(packed: Packed) -> Path:
    """Make it a plain file again."""
    path = packed.path.with_name(f"{packed.number:08d}.sqlite")
    try:
        _write(path, packed.unpacked())
        packed.path.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise JournalDiskError(f"{path.name} can't be unpacked: {error.strerror}") from error
    return path


def _write(path: Path, data: bytes) -> None:
    """A whole file or none."""
    draft = path.with_name(path.name + ".tmp")
    _write_synced(draft, data)
    draft.rename(path)
    sync_folder(path.parent)


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def try_out(folder: Path) -> None:
    """`JournalDiskError` if nothing can be written there."""
    path = folder / "try-out.tmp"
    try:
        _write_synced(path, bytes(TRY_BYTES))
        path.unlink()
    except OSError as error:
        raise JournalDiskError(f"the journal can't write in {folder}: {error.strerror}") from error


def summary(folder: Path) -> dict[str, Any]:
    """Rows by state, files and bytes, as JSON data; of a folder that may be another process'."""
    total: Counter[State] = Counter()
    oldest: float | None = None
    plain, packed = plain_files(folder), packed_files(folder)
    for number, path in plain.items():
        with closing(JournalFile(path, number, readonly=True)) as one:
            total.update(one.counts())
            oldest = one.oldest_pending() if oldest is None else oldest
    return {
        "folder": str(folder),
        "pending": total["pending"],
        "drained": total["drained"] + sum(one.rows for one in packed.values()),
        "failed": total["failed"],
        "oldest_pending": oldest,
        "files": len(plain),
        "packed_files": len(packed),
        "set_aside": set_aside_files(folder),
        "bytes": folder_bytes(folder),
    }


def events(folder: Path, limit: int, offset: int, state: State | None = None) -> list[JournalRow]:
    """A page of all rows, oldest first. Reads only; a file that can't be read is left out."""
    found: list[JournalRow] = []
    plain, packed = plain_files(folder), packed_files(folder)
    for number in sorted(plain.keys() | packed.keys()):
        if len(found) >= limit:
            break
        want = limit - len(found)
        try:
            if number in plain:
                rows, count = _plain_page(plain[number], number, state, want, offset)
            else:
                rows, count = _packed_page(packed[number], state, want, offset)
        except JournalError:
            if number in plain and plain[number].exists():
                raise
            continue  # it was packed or set aside just now
        found += rows
        offset = max(0, offset - count)
    return found


def _plain_page(
    path: Path, number: int, state: State | None, limit: int, offset: int
) -> tuple[list[JournalRow], int]:
    with closing(JournalFile(path, number, readonly=True)) as one:
        counts = one.counts()
        count = sum(counts.values()) if state is None else counts[state]
        return (one.rows(state, limit, offset) if offset < count else []), count


def _packed_page(
    packed: Packed, state: State | None, limit: int, offset: int
) -> tuple[list[JournalRow], int]:
    count = packed.rows if state in (None, "drained") else 0
    if offset >= count:
        return [], count
    return packed_rows(packed.unpacked(), packed.path, state, limit, offset), count
