"""Whether the schemas may be used: each version reads all that earlier ones wrote, for ever.

BACKWARD_TRANSITIVE, by the rules of schema resolution (Apache Avro specification 1.12, "Schema
Resolution"), and the house's own: schemas are flat, times and vectors keep their meaning, a file
never changes once it is recorded in fingerprints.json.
"""

import math
import re
from collections.abc import Iterator
from typing import Any

# Avro reads bytes as a string, too; but not all bytes are UTF-8, and such a value couldn't be read.
PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
}
PRIMITIVES = {"boolean", "int", "long", "float", "double", "bytes", "string"}
MEANINGS = {  # what may be said about a type beyond its kind
    ("long", "logicalType", "timestamp-micros"),
    ("bytes", "vector", "float32"),
    ("bytes", "vector", "float64"),
}
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RANGES = {"int": 31, "long": 63}


def unreadable(reader: Any, writer: Any, where: str = "") -> list[str]:
    """Why `reader` can't read what `writer` wrote; empty if it can. Both as in their files."""
    if isinstance(writer, list):
        return [one for branch in writer for one in unreadable(reader, branch, where)]
    if isinstance(reader, list):
        tries = [unreadable(branch, writer, where) for branch in reader]
        if any(not problems for problems in tries):
            return []
        return [f"{where}: no branch of the union takes {kind_of(writer)}"]
    new, old = kind_of(reader), kind_of(writer)
    if new != old and new not in PROMOTIONS.get(old, set()):
        return [f"{where}: {old} became {new}"]
    if _meaning(reader) != _meaning(writer):
        return [f"{where}: meant {_meaning(writer) or old}, now {_meaning(reader) or new}"]
    return list(_inside(reader, writer, new, where))


def _inside(reader: Any, writer: Any, kind: str, where: str) -> Iterator[str]:
    if kind == "record":
        yield from _fields(reader, writer)
    elif kind == "map":
        yield from unreadable(reader["values"], writer["values"], f"{where}[values]")
    elif kind == "array":
        yield from unreadable(reader["items"], writer["items"], f"{where}[items]")
    elif kind == "enum":
        if not _same_name(reader, writer):
            yield f"{where}: enum {writer['name']} became {reader['name']}"
        lost = [s for s in writer["symbols"] if s not in reader["symbols"]]
        if lost and "default" not in reader:
            yield f"{where}: the enum lost {', '.join(lost)} and has no default for them"


def _fields(reader: Any, writer: Any) -> Iterator[str]:
    if not _same_name(reader, writer):
        yield f"record {writer['name']} became {reader['name']}"
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        names = [field["name"], *field.get("aliases", [])]
        old = next((written[name] for name in names if name in written), None)
        if old is not None:
            yield from unreadable(field["type"], old["type"], field["name"])
        elif "default" not in field:
            yield f"{field['name']}: new, and without a default"


def _same_name(reader: Any, writer: Any) -> bool:
    names = [reader["name"], *reader.get("aliases", [])]
    return writer["name"].rpartition(".")[2] in [name.rpartition(".")[2] for name in names]


def kind_of(schema: Any) -> str:
    """'long', 'record', 'union' …, whatever is said about the type beside its kind."""
    if isinstance(schema, list):
        return "union"
    kind = schema["type"] if isinstance(schema, dict) else schema
    return str(kind)


def _meaning(schema: Any) -> str:
    said = schema if isinstance(schema, dict) else {}
    return str(said.get("logicalType") or said.get("vector") or "")


def misshapen(schema: dict[str, Any], name: str) -> list[str]:
    """What the column kernels and the JSON form don't take in a schema; empty if all is well.

    A record 'soma.<name>' of primitives, enums, these or null (null first, default null), and maps
    and arrays of primitives; every default fits its type.
    """
    problems = []
    if (schema.get("namespace"), schema.get("name")) != ("soma", name):
        problems.append(f"isn't named {name} in the namespace soma")
    if not schema.get("doc"):
        problems.append("has no doc")
    names = [field["name"] for field in schema["fields"]]
    for field in schema["fields"]:
        where = field["name"]
        if not _NAME.fullmatch(where) or names.count(where) > 1:
            problems.append(f"{where}: not a lower-case name of its own")
        found = list(_misfit(field["type"], where))
        if not found and "default" in field and not fits(field["type"], field["default"]):
            found = [f"{where}: the default {field['default']!r} doesn't fit the type"]
        problems += found
    return problems


def _misfit(schema: Any, where: str) -> Iterator[str]:
    kind = kind_of(schema)
    if kind == "union":
        if len(schema) != 2 or schema[0] != "null":
            yield f"{where}: a union must be null and one other type, null first"
        elif kind_of(schema[1]) not in PRIMITIVES | {"enum"}:
            yield f"{where}: only a primitive or an enum may be null"
        else:
            yield from _misfit(schema[1], where)
    elif kind in ("map", "array"):
        item = schema["values" if kind == "map" else "items"]
        if kind_of(item) not in PRIMITIVES or isinstance(item, dict):
            yield f"{where}: a {kind} may hold plain primitives only"
    elif kind == "enum":
        if schema.get("default", schema["symbols"][0]) not in schema["symbols"]:
            yield f"{where}: the enum's default isn't one of its symbols"
    elif kind not in PRIMITIVES:
        yield f"{where}: {kind} isn't supported"
    elif isinstance(schema, dict):
        said = {(kind, key, text) for key, text in schema.items() if key not in ("type", "doc")}
        yield from (f"{where}: {key} {text!r} isn't supported" for _, key, text in said - MEANINGS)


def fits(schema: Any, default: Any) -> bool:
    """Whether a default is a value of its type (a union's: of its first branch)."""
    kind = kind_of(schema)
    if kind == "union":
        return fits(schema[0], default)
    if kind == "null":
        return default is None
    if kind in _RANGES:
        whole = isinstance(default, int) and not isinstance(default, bool)
        return whole and -(1 << _RANGES[kind]) <= default < 1 << _RANGES[kind]
    if kind in ("float", "double"):
        number = isinstance(default, int | float) and not isinstance(default, bool)
        return number and math.isfinite(default)
    if kind == "map":
        return isinstance(default, dict) and all(
            fits(schema["values"], item) for item in default.values()
        )
    if kind == "array":
        return isinstance(default, list) and all(fits(schema["items"], item) for item in default)
    if kind == "enum":
        return default in schema["symbols"]
    if kind == "bytes":
        return isinstance(default, str) and all(ord(letter) < 256 for letter in default)
    return isinstance(default, {"string": str, "boolean": bool}[kind])
