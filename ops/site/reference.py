"""Pages that follow from the code: topics, schemas, commands, and what a processor may use.

They are made whenever the site is built, so none of them can be out of date.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import click

import agents.kit
from agents.cli import main
from agents.contract.suite import Contract, suite
from topics.catalogue import CATALOGUE
from topics.plugins import KIT, Plugin
from topics.schemas import PLUGINS, schemas
from topics.topic import DAY_MS, Topic

OF_PACKAGES = (Topic, Plugin)
MD = ".md"  # made here, these pages are no files


def pages() -> dict[str, str]:
    """Each page's text, by its path in the site."""
    return {
        "reference/commands.md": commands(),
        "reference/kit.md": kit(),
        "reference/schemas.md": all_schemas(),
        "reference/topics.md": topics(),
    }


def topics() -> str:
    """The catalogue as a table."""
    rows = [
        f"| `{one.name}` | {_schema_link(one.schema)} | {one.key} | {', '.join(one.writers)} "
        f"| {', '.join(one.readers)} | {_kept(one)} |"
        for one in CATALOGUE.values()
    ]
    return "\n".join((
        "# Topics", "",
        "What each topic holds, who writes and reads it, and how long a record lives there. "
        "`SOMA_NAMESPACE` stands before each name; `soma topics apply` makes them.", "",
        "| Topic | Values | Key | Written by | Read by | Kept |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows, "",
    ))  # fmt: skip


def _schema_link(name: str | None) -> str:
    return "as they came" if name is None else f"[{name}](schemas{MD}#{name})"


def _kept(topic: Topic) -> str:
    days = None if topic.retention_ms is None else f"{topic.retention_ms // DAY_MS} days"
    compacted = "the last of each key" if "compact" in topic.cleanup else None
    return ", ".join(filter(None, (compacted, days))) or "for ever"


def all_schemas() -> str:
    """The newest version of each schema, field by field."""
    known = schemas()
    parts = [
        "# Schemas",
        f"Values are Avro in the Confluent wire format. Ids from {PLUGINS} on belong to packages "
        "of other people. A newer version reads all that older ones wrote.",
    ]
    for name in known.names():
        raw, versions = known.raw(name), known.versions(name)
        ids = ", ".join(f"v{one}: {known.schema_id(name, one)}" for one in versions)
        rows = [
            f"| `{one['name']}` | {_cell(_type(one['type']))} | {_default(one)} "
            f"| {_cell(one.get('doc', ''))} |"
            for one in raw["fields"]
        ]
        table = ("| Field | Type | Default | |", "| --- | --- | --- | --- |", *rows)
        parts += [
            f"## {name}",
            raw.get("doc", ""),
            f"Ids: {ids}.",
            "\n".join(table) if rows else "",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _type(kind: Any) -> str:
    if isinstance(kind, list):
        return " or ".join(map(_type, kind))
    if isinstance(kind, dict):
        inner = kind.get("items", kind.get("values"))
        said = kind.get("logicalType", kind["type"])
        return f"{said} of {_type(inner)}" if inner is not None else str(said)
    return str(kind)


def _default(field: dict[str, Any]) -> str:
    return f"`{field['default']!r}`" if "default" in field else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def commands() -> str:
    """What `--help` says of each command."""
    parts = ["# Commands", "What `soma … --help` says, all of it."]
    for path, command, context in _commands("soma", main, None):
        parts += [f"## {path}", f"```text\n{command.get_help(context)}\n```"]
    return "\n\n".join(parts) + "\n"


def _commands(
    path: str, command: click.Command, parent: click.Context | None
) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(
        command, info_name=path.split()[-1], parent=parent, max_content_width=100
    )
    yield path, command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands(f"{path} {name}", found, context)


def kit() -> str:
    """What a processor may use: names, parameters, docstrings."""
    parts = [
        "# The kit: Python API",
        f"From `agents.kit`, unless it says otherwise; version {KIT} of what packages may use.",
    ]
    named = [(f"agents.kit.{name}", getattr(agents.kit, name)) for name in agents.kit.__all__]
    named += [(f"{one.__module__}.{one.__name__}", one) for one in OF_PACKAGES]
    named += [("agents.contract.suite", suite), ("agents.contract.Contract", Contract)]
    for name, what in named:
        parts += [
            f"## {name.rpartition('.')[2]}",
            f"```python\n{name}{_signature(what)}\n```",
            _doc(what),
        ]
        parts += list(_members(what)) if inspect.isclass(what) else []
    return "\n\n".join(part for part in parts if part) + "\n"


def _members(what: type[Any]) -> Iterator[str]:
    """A class' own public methods and properties."""
    for name, member in vars(what).items():
        if name.startswith("_") or not (isinstance(member, property) or inspect.isfunction(member)):
            continue
        said = "" if isinstance(member, property) else _signature(member)
        yield f"### {what.__name__}.{name}"
        yield f"```python\n{name}{said}\n```"
        yield _doc(member)


def _signature(what: Any) -> str:
    try:
        return str(inspect.signature(what)).replace("self, ", "").replace("(self)", "()")
    except (TypeError, ValueError):  # an exception's
        return ""


def _doc(what: Any) -> str:
    """The docstring, its examples as code."""
    text = inspect.getdoc(what) or ""
    lines = [
        f"    {line}" if line.startswith((">>>", "...")) else line for line in text.splitlines()
    ]
    return "\n".join(lines)
