"""The Avro schema of a processor's state rows: it follows from their dataclass.

A row on the wire has two fields of the kit's own (`TOUCHED`, `SETTINGS`), then the dataclass's.
"""

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from topics.layout import FLOAT, INT, Layout
from topics.schemas import plain

TOUCHED = "touched"  # log time of the row's last record, ms; 0: the row is there for its settings
SETTINGS = "settings"  # what the tenant set
OWN = (
    {
        "name": TOUCHED, "type": "long", "default": 0,
        "doc": "log time of the last record, ms; 0 in a row of settings alone",
    },
    {
        "name": SETTINGS, "type": {"type": "map", "values": "string"}, "default": {},
        "doc": "what the tenant set itself",
    },
)  # fmt: skip
_PRIMITIVES = {int: "long", float: "double", str: "string", bytes: "bytes", bool: "boolean"}


class RowMismatch(ValueError):
    """The registered schema of a processor's rows isn't that of their dataclass, `wanted`."""

    def __init__(self, text: str, wanted: dict[str, Any]) -> None:
        super().__init__(text)
        self.wanted = wanted


def row_schema(processor: str, row: type[Any]) -> dict[str, Any]:
    """The schema of soma.<processor>.state for rows of this dataclass, as its .avsc has it.

    Field types: int, float, str, bytes, bool, any of them or None, list[…] and dict[str, …] of
    them. Every field has a default, or the first record of a tenant had no row. ValueError names
    the field that isn't so.
    """
    if not is_dataclass(row):
        raise ValueError(f"{processor}: rows are dataclasses, and {row!r} isn't one")
    if getattr(row, "__dataclass_params__").frozen:  # noqa: B009 - typing knows it not
        raise ValueError(f"{processor}: {row.__name__} is frozen: no law could change its rows")
    hints = get_type_hints(row)
    own = [_field(processor, one, hints[one.name]) for one in fields(row)]
    if clash := {one["name"] for one in own} & {TOUCHED, SETTINGS}:
        raise ValueError(f"{processor}: {', '.join(sorted(clash))} is a name of the kit's own")
    return {
        "type": "record", "name": f"{processor}_state", "namespace": "soma",
        "doc": f"What the processor {processor} knows of a tenant, or of one of its entities. "
        "Key: tenant, or tenant 0x1f entity; '*' for the settings of all.",
        "fields": [*OWN, *own],
    }  # fmt: skip


def _field(processor: str, field: "Field[Any]", hint: Any) -> dict[str, Any]:
    where = f"{processor}: row field {field.name}"
    if field.kw_only or not field.init:
        raise ValueError(f"{where} can't be given by its position, as rows are read back")
    if field.default is not MISSING:
        default = field.default
    elif field.default_factory is not MISSING:
        default = field.default_factory()
    else:
        raise ValueError(f"{where} has no default")
    kind = _type(where, hint)
    if isinstance(default, bytes):
        default = default.decode("latin-1")  # as Avro writes it
    found: dict[str, Any] = {"name": field.name, "type": kind, "default": default}
    return found | ({"doc": field.metadata["doc"]} if "doc" in field.metadata else {})


def _type(where: str, hint: Any) -> Any:
    if hint in _PRIMITIVES:
        return _PRIMITIVES[hint]
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType) and len(inside) == 2 and type(None) in inside:
        one = next(each for each in inside if each is not type(None))
        if one in _PRIMITIVES:
            return ["null", _PRIMITIVES[one]]
    if origin is list and inside[0] in _PRIMITIVES:
        return {"type": "array", "items": _PRIMITIVES[inside[0]]}
    if origin is dict and inside[0] is str and inside[1] in _PRIMITIVES:
        return {"type": "map", "values": _PRIMITIVES[inside[1]]}
    raise ValueError(
        f"{where}: {hint} can't be kept; int, float, str, bytes, bool, these or None, "
        "list and dict[str, …] of these can"
    )


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What a registered schema has other than the dataclass's; empty where rows fit it."""
    mine = {one["name"]: one for one in plain(wanted)["fields"]}
    theirs = {one["name"]: one for one in plain(found)["fields"]}
    if missing := [name for name in mine if name not in theirs]:
        return [f"{name}: not in the schema" for name in missing]
    if more := [name for name in theirs if name not in mine]:
        return [f"{name}: not in the dataclass" for name in more]
    problems = _narrow(found)
    for name, one in mine.items():
        other = theirs[name]
        if _kind(one["type"]) != _kind(other["type"]):
            problems.append(f"{name}: {one['type']} by the dataclass, {other['type']} there")
        elif "default" not in other or one["default"] != other["default"]:
            problems.append(f"{name}: default {one['default']!r}, {other.get('default')!r} there")
    if not problems and list(mine) != list(theirs):
        problems.append(f"the fields' order: {', '.join(mine)} by the dataclass")
    return problems


def _kind(type_: Any) -> Any:
    """A type without what is said about it ({"type": "bytes", "vector": …} is bytes)."""
    if isinstance(type_, dict) and type_["type"] in ("array", "map"):
        inner = "items" if type_["type"] == "array" else "values"
        return type_["type"], _kind(type_[inner])
    if isinstance(type_, list):
        return [_kind(each) for each in type_]
    return type_["type"] if isinstance(type_, dict) else type_


def _narrow(found: dict[str, Any]) -> list[str]:
    """Fields of 32 bits: a number would come back from a restart as another."""
    problems = []
    for field in Layout(plain(found)).fields:
        kinds = {field.type.kind, field.type.item.kind if field.type.item else field.type.kind}
        if kinds & {FLOAT, INT}:
            problems.append(f"{field.name}: give it 64 bits (long or double)")
    return problems
