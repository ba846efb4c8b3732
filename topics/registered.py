"""Schemas whose ids a registry gave: asked for, compared, kept on disk, and never guessed.

Every schema of ours is registered under `soma.NAME`, the name of its record; there its id is asked
for. What a registry answers counts only where the schema of that id is, but for the words in it,
the very one that we have. Ids never change, so what was once answered is kept in SOMA_HOME and goes
on while the registry is away; after CHECKED_S it is compared anew. Ids of others' schemas, found in
front of records, are asked for when they come (`settle`).
"""

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from topics.registry import PASSWORD, URL, USER, Access, Registry, RegistryAway, RegistryError
from topics.schemas import Key, Schema, SchemaError, Schemas, fingerprint, split, stem_of
from topics.strangers import NotReadableError, Stranger, judged

CHECKED_S = 600.0  # until kept ids are compared with the registry's anew
ABSENT_S = 60.0  # until an id that the registry didn't have is asked for again
LATE_S = 1.0  # a registry of several nodes may know an id a moment after its record was written
UNKNOWN_MAX = 10_000  # ids that aren't there, remembered


class Kept(NamedTuple):
    """An id, and the fingerprint of the schema that it stands for."""

    number: int
    print: str


@dataclass(slots=True)
class Cache:
    """What the registry said, on this machine's disk. A file that can't be read is none."""

    path: Path
    checked: float = 0.0  # unix seconds
    ids: dict[str, Kept] = field(default_factory=dict)  # by stem
    others: dict[int, str] = field(default_factory=dict)  # others' schemas, as JSON text

    @classmethod
    def read(cls, access: Access) -> "Cache":
        """That of a registry."""
        name = hashlib.sha256(access.url.encode()).hexdigest()[:16]
        found = cls(access.home / "registry" / f"{name}.json")
        try:
            said = json.loads(found.path.read_text("utf-8"))
            found.ids = {stem: Kept(int(one[0]), str(one[1])) for stem, one in said["ids"].items()}
            found.others = {int(one): str(text) for one, text in said["others"].items()}
            found.checked = float(said["checked"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return cls(found.path)
        return found

    def write(self, url: str) -> None:
        """Keep it, in one step. Where that can't be, it is said and nothing else."""
        said = {"url": url, "checked": self.checked, "ids": self.ids, "others": self.others}
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(said, indent=1) + "\n", "utf-8")
            part.replace(self.path)
        except OSError as error:
            say(f"the ids can't be kept for when the registry is away: {error}")


def text_of(raw: Schema) -> str:
    """A schema as it is sent: always the same bytes, for some registries know it by these.

    Apicurio 3.3.3 finds no Avro in a schema with the text "{}"; escaped it is the same JSON.
    """
    text = json.dumps(raw, ensure_ascii=False, separators=(",", ":"))
    return text.replace('"{}"', '"\\u007b}"')


def subject_of(name: str) -> str:
    """The subject that has all versions of a schema, by its record's name."""
    return f"soma.{name}"


def say(text: str) -> None:
    """A line for people and logs; there may be no logging yet."""
    print(f"schema registry: {text}", file=sys.stderr, flush=True)


class RegisteredSchemas(Schemas):
    """All schemas, by the ids that the registry gave them. Nothing is asked before an id is wanted.

    Safe to share by threads.
    """

    def __init__(self, access: Access, place: Path | None = None) -> None:
        self.access = access
        self._lock = threading.RLock()
        self._ready = False
        self._others: dict[int, Stranger] = {}
        self._not: dict[int, str] = {}  # id -> why nothing of ours can read it
        self._absent: dict[int, float] = {}  # id -> when it is to be asked for again
        super().__init__(place)

    def _take(self, place: Path) -> None:
        """Take in a folder. The ids of its ids.json mean nothing here, so they can't clash."""
        keys = [split(path.stem) for path in sorted(place.glob("*.avsc"))]
        if taken := [stem_of(key) for key in keys if key in self._raw]:
            raise SchemaError(f"there is a schema {taken[0]} already")
        self._read(place, keys)

    def add(self, place: Path) -> None:
        """Take in the schemas of a plugin. `SchemaError` if a name is taken."""
        self._take(place)

    def numbers(self) -> Mapping[Key, int]:
        if not self._ready:
            with self._lock:
                if not self._ready:
                    self.ask()
        return self._numbers

    def ask(self, anew: bool = False) -> None:
        """Have all ids. `anew`: from the registry itself, and it must answer.

        RegistryError: it is away and not all ids are kept here, it lacks some of our schemas, or
        an id of it stands for another one.
        """
        if "@" in self.access.url:  # it would be shown wherever it is named
            raise RegistryError(f"{URL}: give user and password as {USER} and {PASSWORD}")
        cache = Cache.read(self.access)
        prints = {key: fingerprint(raw) for key, raw in self._raw.items()}
        kept = {
            key: one.number
            for key in self.all()
            if (one := cache.ids.get(stem_of(key))) is not None and one.print == prints[key]
        }
        whole, ago = len(kept) == len(prints), time.time() - cache.checked
        if anew or not (whole and 0.0 <= ago < CHECKED_S):
            try:
                kept = self._asked(kept)
            except RegistryAway as error:
                if anew or not whole:
                    raise lacking(error, whole, len(prints)) from error
                say(f"{error}; going on with the ids kept in {cache.path}")
            else:
                cache.ids |= {stem_of(key): Kept(n, prints[key]) for key, n in kept.items()}
                cache.checked = time.time()
                cache.write(self.access.url)
        self._numbers = {key: kept[key] for key in self.all()}
        self._keys = {number: key for key, number in self._numbers.items()}
        for number, text in cache.others.items():
            self._learn(number, text)
        self._ready = True

    def _asked(self, kept: Mapping[Key, int]) -> dict[Key, int]:
        """Every id from the registry, each compared with what it stands for there."""
        found: dict[Key, int] = {}
        wrong: list[str] = []
        missing: list[str] = []
        with Registry(self.access) as registry:
            for key in self.all():
                number = kept.get(key)
                if number is None:
                    at = registry.lookup(subject_of(key[0]), text_of(self._raw[key]))
                    if at is None:
                        missing.append(stem_of(key))
                        continue
                    number = at[0]
                if why := differs(registry.schema(number), self._raw[key]):
                    wrong.append(f"{stem_of(key)}: {why.format(number)}")
                found[key] = number
        wrong += clashes(found)
        if wrong:
            raise RegistryError(
                f"{URL}: {self.access.url} gives ids that can't be used:\n  " + "\n  ".join(wrong)
            )
        if missing:
            raise RegistryError(
                f"{URL}: {self.access.url} lacks {len(missing)} of {len(self._raw)} schemas "
                f"({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}): "
                "`soma schema register` registers them"
            )
        return found

    def by_id(self, schema_id: int) -> tuple[str, int, Schema]:
        key = self._of(schema_id)
        if key is not None:
            return *key, self._parsed[key]
        if self.unsettled([schema_id]):
            self.settle([schema_id])
        if (other := self._others.get(schema_id)) is not None:
            return other.name, 0, other.parsed
        raise KeyError(
            self._not.get(schema_id, f"no schema has the id {schema_id}, in the registry neither")
        )

    def why(self, number: int) -> str:
        return self._not.get(number, "")

    def writers(self, name: str) -> Mapping[int, Schema]:
        others = {n: one.parsed for n, one in list(self._others.items()) if one.name == name}
        return {**super().writers(name), **others}

    def is_control(self, number: int) -> bool:
        key = self._of(number)
        return key is not None and key[0].startswith("control_")

    def _of(self, number: int) -> Key | None:
        self.numbers()
        return self._keys.get(number)

    @property
    def age(self) -> int:
        return len(self._others)

    def unsettled(self, numbers: Iterable[int]) -> list[int]:
        now = time.monotonic()
        return [
            number
            for number in numbers
            if self._of(number) is None
            and number not in self._others
            and number not in self._not
            and self._absent.get(number, 0.0) <= now
        ]

    def settle(self, numbers: Iterable[int]) -> None:
        """Ask what these ids are. RegistryAway where it doesn't answer: they stay unsettled."""
        with self._lock:
            left = self.unsettled(numbers)
            if not left:
                return
            with Registry(self.access) as registry:
                found = {number: registry.schema(number) for number in left}
                if missing := [number for number, text in found.items() if text is None]:
                    time.sleep(LATE_S)
                    found |= {number: registry.schema(number) for number in missing}
            self._note(found)

    def _note(self, found: Mapping[int, str | None]) -> None:
        if len(self._absent) + len(self._not) > UNKNOWN_MAX:
            self._absent.clear()
            self._not.clear()
        again = time.monotonic() + ABSENT_S
        self._absent |= {number: again for number, text in found.items() if text is None}
        news = {number: text for number, text in found.items() if text is not None}
        fit = {number: text for number, text in news.items() if self._learn(number, text)}
        if fit:
            cache = Cache.read(self.access)
            cache.others |= fit
            cache.write(self.access.url)

    def _learn(self, number: int, text: str) -> bool:
        """Take in another's schema, if the newest of ours of that name can read it."""
        try:
            self._others[number] = judged(number, text, self)
        except NotReadableError as error:
            self._not[number] = str(error)
            return False
        return True


def differs(said: str | None, raw: Schema) -> str:
    """Why an id doesn't stand for a schema; empty: it does. '{}' stands for the id."""
    if said is None:
        return "the id {} isn't there any more"
    try:
        theirs: Any = json.loads(said)
    except ValueError:
        return "what the id {} stands for there is no JSON"
    return "" if fingerprint(theirs) == fingerprint(raw) else "the id {} is another schema's there"


def clashes(found: Mapping[Key, int]) -> list[str]:
    """Which ids stand for more than one schema of ours."""
    stems: dict[int, list[str]] = {}
    for key, number in found.items():
        stems.setdefault(number, []).append(stem_of(key))
    return [f"{' and '.join(some)}: both have the id {n}" for n, some in stems.items() if some[1:]]


def lacking(error: RegistryAway, whole: bool, count: int) -> RegistryError:
    """The error of a registry that is away and can't be done without."""
    if whole:
        return error
    return RegistryAway(f"{error}; and the ids of our {count} schemas aren't all kept here")
