"""The schemas of avro/: append-only files NAME.vN.avsc, and ids.json, which numbers them.

An id stands in front of every value on the wire (Confluent wire format), so an id never changes its
meaning. Ids from `RESERVED` on are control records, which processors obey instead of folding them;
those from `PLUGINS` on belong to packages of other people (`topics.plugins`). An installation with
a schema registry has its ids from there instead (`topics.registered`), all of them.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from fastavro import parse_schema

from topics.plugins import plugins, refuse
from topics.registry import chosen

Schema = dict[str, Any]
Key = tuple[str, int]  # name and version
RESERVED = 900
PLUGINS = 1000  # ids of plugins' schemas begin here


def is_control_id(number: int) -> bool:
    """Whether an id is a control record's."""
    return schemas().is_control(number)


def control_ids() -> list[int]:
    """Those of the control records that this version knows, in order."""
    return sorted(filter(is_control_id, schemas().ids()))


class SchemaError(Exception):
    """The files in avro/ contradict each other or aren't there."""


def folder() -> Path:
    """Where the .avsc files are: inside the installed package, or beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for place in (here / "avro", here.parent / "avro"):
        if (place / "ids.json").is_file():
            return place
    raise SchemaError(f"no avro/ids.json in {here} or {here.parent}: the installation is broken")


def stem_of(key: Key) -> str:
    """('observation', 1) -> 'observation.v1'."""
    return f"{key[0]}.v{key[1]}"


def split(stem: str) -> Key:
    """'observation.v1' -> ('observation', 1)."""
    name, dot, version = stem.rpartition(".v")
    if not (name and dot and version.isdecimal() and int(version) > 0):
        raise SchemaError(f"{stem!r} isn't NAME.vN with N >= 1")
    return name, int(version)


def plain(schema: Any) -> Any:
    """The schema without logical types: times are plain integers (microseconds) in every dict."""
    if isinstance(schema, list):
        return [plain(part) for part in schema]
    if isinstance(schema, dict):
        return {key: plain(part) for key, part in schema.items() if key != "logicalType"}
    return schema


class Schemas:
    """All schemas, by id and by name and version. Only ever added to (`add`)."""

    def __init__(self, place: Path | None = None) -> None:
        self.place = place or folder()
        self._numbers: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._raw: dict[Key, Schema] = {}
        self._parsed: dict[Key, Schema] = {}
        self._take(self.place)

    def add(self, place: Path) -> None:
        """Take in the schemas of a plugin. `SchemaError` if ids or names are taken."""
        low = [number for number in read(place / "ids.json") if int(number) < PLUGINS]
        if low:
            raise SchemaError(f"{place}/ids.json: ids of plugins begin at {PLUGINS}, not {low[0]}")
        self._take(place)

    def _take(self, place: Path) -> None:
        """Take in a folder, all of it or nothing."""
        table = {int(number): stem for number, stem in read(place / "ids.json").items()}
        numbers: dict[Key, int] = {}
        for number, stem in sorted(table.items()):
            key = split(stem)
            if taken := numbers.get(key) or self._numbers.get(key):
                raise SchemaError(f"ids.json gives {stem} two ids: {taken} and {number}")
            if number in self._keys:
                owner = stem_of(self._keys[number])
                raise SchemaError(f"the id {number} is {owner}'s, not {stem}'s")
            numbers[key] = number
        self._read(place, numbers)
        self._numbers |= numbers
        self._keys |= {number: key for key, number in numbers.items()}

    def _read(self, place: Path, keys: Iterable[Key]) -> None:
        """Read a folder's files, all of them or none."""
        raw = {key: read(place / f"{stem_of(key)}.avsc") for key in keys}
        parsed = {key: parse(one, stem_of(key)) for key, one in raw.items()}
        self._raw |= raw
        self._parsed |= parsed

    def numbers(self) -> Mapping[Key, int]:
        """(name, version) -> the id that it is written with."""
        return self._numbers

    def all(self) -> list[Key]:
        """(name, version) of all schemas, in alphabetical order; asks for no id."""
        return sorted(self._raw)

    def names(self) -> list[str]:
        """Every schema's name, in alphabetical order."""
        return sorted({name for name, _ in self._raw})

    def versions(self, name: str) -> list[int]:
        """The versions of a schema, oldest first; empty if there is no such schema."""
        return sorted(version for known, version in self._raw if known == name)

    def ids(self) -> dict[int, tuple[str, int]]:
        """id -> (name, version), all of them."""
        return {number: key for key, number in self.numbers().items()}

    def schema_id(self, name: str, version: int | None = None) -> int:
        """The id of a version (default: the newest). KeyError if there is none."""
        return self.numbers()[name, self._newest(name) if version is None else version]

    def by_id(self, schema_id: int) -> tuple[str, int, Schema]:
        """(name, version, parsed schema) of an id. KeyError if it isn't known; its text says why.

        The version is 0 where it is none of ours, but one that the name's newest can read.
        """
        if schema_id not in self._keys:
            raise KeyError(f"no schema has the id {schema_id}")
        key = self._keys[schema_id]
        return *key, self._parsed[key]

    def is_control(self, number: int) -> bool:
        """Whether an id is a control record's, of this version or a later one."""
        return RESERVED <= number < PLUGINS

    def unsettled(self, numbers: Iterable[int]) -> list[int]:
        """Those of these ids of which it must be asked elsewhere whether they can be read."""
        return []

    def settle(self, numbers: Iterable[int]) -> None:
        """Ask about ids that are `unsettled`."""

    def why(self, number: int) -> str:
        """Why an id that was settled can't be read; empty where there is no more to say of it."""
        return ""

    @property
    def age(self) -> int:
        """Changes when there is another schema that `writers` may give."""
        return 0

    def newest(self, name: str) -> Schema:
        """The newest version as fastavro wants it, without logical types. KeyError if unknown."""
        return self._parsed[name, self._newest(name)]

    def raw(self, name: str, version: int | None = None) -> Schema:
        """A version as it stands in its file, logical types and all (default: the newest)."""
        return self._raw[name, self._newest(name) if version is None else version]

    def writers(self, name: str) -> Mapping[int, Schema]:
        """id -> schema of every version of a schema: what columns.Reader compiles programs from."""
        return {n: self._parsed[key] for key, n in self.numbers().items() if key[0] == name}

    def digest(self) -> str:
        """Names this very set of schemas, 16 hex digits: the epochs log records it."""
        text = json.dumps({str(n): fingerprint(self.raw(*key)) for n, key in self.ids().items()})
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _newest(self, name: str) -> int:
        versions = self.versions(name)
        if not versions:
            raise KeyError(name)
        return versions[-1]


def fingerprint(schema: Any) -> str:
    """sha256 of what matters in a schema: all but the words for people (doc) and white space."""
    text = json.dumps(_canonical(schema), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def schemas() -> Schemas:
    """The installed schemas and those of plugins, read once."""
    known = _of_registry() if chosen() is not None else Schemas()
    for plugin in plugins():
        if plugin.schemas is not None:
            try:
                known.add(plugin.schemas)
            except SchemaError as error:
                refuse(plugin.package, str(error))
    return known


def _of_registry() -> Schemas:
    from topics.registered import RegisteredSchemas  # where there is a registry

    access = chosen()
    assert access is not None
    return RegisteredSchemas(access)


def read(path: Path) -> dict[str, Any]:
    """A file's JSON object. `SchemaError` if it isn't one, or gives a name twice."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError) as error:
        raise SchemaError(f"{path.name}: {error}") from error
    if not isinstance(content, dict):
        raise SchemaError(f"{path.name}: not a JSON object")
    return content


def parse(raw: Schema, stem: str) -> Schema:
    """The schema as fastavro wants it, without logical types. `SchemaError` if it isn't one."""
    try:
        parsed = parse_schema(plain(raw))
    except Exception as error:  # fastavro raises many kinds; all mean: not a schema
        raise SchemaError(f"{stem}.avsc: not an Avro schema: {error}") from error
    if not isinstance(parsed, dict) or parsed.get("type") != "record":
        raise SchemaError(f"{stem}.avsc: not a record")
    return parsed


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"a name is given twice among {', '.join(names)}")
    return dict(pairs)


def _canonical(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_canonical(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _canonical(part) for key, part in schema.items() if key != "doc"}
    return schema
