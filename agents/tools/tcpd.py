"""The formats of the Turing Change Point Dataset (github.com/alan-turing-institute/TCPD).

A series is a JSON document {name, n_obs, n_dim, time: {index, raw?}, series: [{label, raw}]};
annotations are {series name: {annotator: [0-based indices of the first point after a change]}}.
Everything wrong with one is a `TableError`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from agents.tools.scores import Labels
from agents.tools.source import TableError
from agents.tools.table import number
from topics import strictjson

DOCUMENT_BYTES_MAX = 256 << 20
ANNOTATIONS = "annotations.json"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Document:
    """One series of the dataset; `values` per dimension, NaN where a value is missing."""

    name: str
    times: Sequence[Any]  # raw times where there are any, otherwise the index
    labels: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    def __len__(self) -> int:
        return len(self.values[0])


def document(text: str) -> Document:
    """A series' document; TableError says what is wrong with it."""
    found = parsed(text)
    if not isinstance(found, dict) or not isinstance(found.get("series"), list):
        raise TableError(
            "this JSON is neither one object a line nor of the Turing dataset (no list 'series')"
        )
    points = found.get("n_obs")
    dimensions = [_dimension(one, k) for k, one in enumerate(found["series"])]
    if not dimensions:
        raise TableError("the dataset's document has an empty 'series'")
    if isinstance(points, bool) or not isinstance(points, int) or points < 1:
        raise TableError(f"n_obs is {points!r} instead of a number of points")
    for label, values in dimensions:
        if len(values) != points:
            raise TableError(f"n_obs is {points}, but series {label!r} has {len(values)} values")
    return Document(
        name=str(found.get("name", "")),
        times=_times(found.get("time"), points),
        labels=tuple(label for label, _ in dimensions),
        values=tuple(values for _, values in dimensions),
    )


def parsed(text: str) -> Any:
    """A JSON text; TableError with the line where it stops being one."""
    try:
        return strictjson.parse(text)
    except strictjson.NotJsonError as error:
        line = text.count("\n", 0, error.place) + 1 if error.place >= 0 else 0
        raise TableError(str(error), line) from None


def annotations(found: object) -> dict[str, dict[str, list[int]]]:
    """{series: {annotator: locations}}, checked."""
    if not isinstance(found, dict):
        raise TableError("annotations are an object {series: {annotator: [index, …]}}")
    for name, by in found.items():
        if not isinstance(by, dict) or not by:
            raise TableError(f"the annotations of {name!r} aren't {{annotator: [index, …]}}")
        for who, places in by.items():
            whole = isinstance(places, list) and all(
                isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in places
            )
            if not whole:
                raise TableError(f"{name!r}, annotator {who!r}: a list of indices is wanted")
    return found


def folder(path: Path) -> Iterator[tuple[Document, Labels]]:
    """Every annotated series of a folder in the dataset's format, in the order of their names."""
    known = _of(path / ANNOTATIONS, lambda text: annotations(parsed(text)))
    for name in sorted(known):
        yield _of(path / f"{name}.json", document), known[name]


def _of(path: Path, take: Callable[[str], T]) -> T:
    text = _read(path)
    try:
        return take(text)
    except TableError as error:
        raise TableError(f"{path}: {error}") from None


def _read(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > DOCUMENT_BYTES_MAX:
            raise TableError(f"{path} has {size:,} bytes (at most {DOCUMENT_BYTES_MAX:,})")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TableError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path} isn't UTF-8 (byte {error.start + 1})") from None


def _dimension(one: object, k: int) -> tuple[str, tuple[float, ...]]:
    if not isinstance(one, Mapping) or not isinstance(one.get("raw"), list):
        raise TableError(f"series {k + 1} of the dataset's document has no list 'raw'")
    label = str(one.get("label") or f"V{k + 1}")
    values = []
    for place, cell in enumerate(one["raw"]):
        if isinstance(cell, str):
            raise TableError(f"series {label!r}, value {place}: {cell[:40]!r} isn't a number")
        try:
            values.append(number(cell))
        except ValueError as error:
            raise TableError(f"series {label!r}, value {place}: {error}") from None
    return label, tuple(values)


def _times(time: object, points: int) -> Sequence[Any]:
    if not isinstance(time, Mapping):
        return range(points)
    for form in ("raw", "index"):
        found = time.get(form)
        if found is None:
            continue
        if not isinstance(found, list) or len(found) != points:
            raise TableError(f"time.{form} isn't a list of n_obs = {points} times")
        return found
    return range(points)
