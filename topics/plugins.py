"""Packages that bring processors, topics and schemas of their own.

An installed package is found by its entry point of the group `soma.processors`, which names a
`Plugin`; others by SOMA_PLUGINS=module,module, each with a `PLUGIN`. It is read before the
catalogue is there, so it imports nothing of ours but `topics.plugins` and `topics.topic`; its
processors' modules are imported when they are chosen.

A package that can't be had ends whoever starts, in a line that names it, unless
SOMA_PLUGINS_OPTIONAL names it: then all of it is left out, and a line on stderr says so.
"""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from topics.topic import Topic, join

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

VARIABLE = "SOMA_PLUGINS"  # these are read here, before there are settings; they show them too
OPTIONAL = "SOMA_PLUGINS_OPTIONAL"
ALL = "*"  # as OPTIONAL: each of them
GROUP = "soma.processors"
KIT = 1  # of what a package may use: the next version is for those that need what is new in it


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a package of one's own brings.

    `processors` says which module's PROCESSOR it is, by name, and `sources` what each reads;
    `schemas` is a folder as avro/ is, with an ids.json whose ids begin at `topics.schemas.PLUGINS`.
    `kit` is the version of the kit that it was written for. `package` is filled in here: what
    messages call it.
    """

    processors: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    topics: tuple[Topic, ...] = ()
    schemas: Path | None = None
    kit: int = KIT
    package: str = field(default="", compare=False)


class PluginError(Exception):
    """Why a package can't be taken; the text doesn't name it yet."""


_left_out: dict[str, str] = {}  # package -> why


def plugins() -> tuple[Plugin, ...]:
    """Those that are taken. Exits, saying which, where one can't be had and isn't optional."""
    return tuple(plugin for plugin in _found() if plugin.package not in _left_out)


def left_out() -> Mapping[str, str]:
    """Which packages this process goes on without, and why."""
    plugins()
    return dict(_left_out)


def optional(package: str) -> bool:
    """Whether a process may go on without a package."""
    name = package.removeprefix(f"{VARIABLE}: ").partition(" ")[0]
    return bool({ALL, name} & set(_names(os.environ.get(OPTIONAL, ""))))


def refuse(package: str, why: str) -> None:
    """Go on without a package where that is told so; else exit, naming it."""
    if not optional(package):
        raise SystemExit(f"{package}: {why}" if package else why)
    if package not in _left_out:
        _left_out[package] = why
        print(f"{package}: {why}; going on without it ({OPTIONAL})", file=sys.stderr)


def bring(plugin: Plugin, catalogue: dict[str, Topic]) -> None:
    """Take a plugin's topics into the catalogue, all or none.

    PluginError where one is there already, or where what its processors read isn't.
    """
    if clash := [topic.name for topic in plugin.topics if topic.name in catalogue]:
        raise PluginError(f"there is a topic {', '.join(clash)} already")
    whole = catalogue | {topic.name: topic for topic in plugin.topics}
    for processor, source in plugin.sources.items():
        try:
            join(whole, processor, source)
        except ValueError as error:
            raise PluginError(str(error)) from error
    catalogue.update(whole)


def take(plugin: Plugin, catalogue: dict[str, Topic]) -> None:
    """`bring` what was found; where that can't be, `refuse` it."""
    try:
        bring(plugin, catalogue)
    except PluginError as error:
        refuse(plugin.package, str(error))


def bringer_of(topic: str) -> str:
    """What the package is called that declares a topic; empty where none does."""
    names = [plugin.package for plugin in plugins() if topic in {one.name for one in plugin.topics}]
    return names[0] if names else ""


@cache
def _found() -> tuple[Plugin, ...]:
    """Those of SOMA_PLUGINS in its order, then the installed ones by name."""
    named = _names(os.environ.get(VARIABLE, ""))
    loads: list[tuple[str, Callable[[], object]]] = [
        (f"{VARIABLE}: {name}", partial(_of_module, name)) for name in named
    ]
    loads += [(_label(one), one.load) for one in _installed() if one.module not in named]
    found = [_had(package, load) for package, load in loads]
    return tuple(plugin for plugin in found if plugin is not None)


def _installed() -> "list[EntryPoint]":
    """The entry points of our group, by name. To import what reads them takes a twentieth of a
    second, so it is only done where a file has the group's name.
    """
    places = [Path(place or ".").glob("*-info/entry_points.txt") for place in sys.path]
    if not any(GROUP in file.read_text("utf-8", "replace") for some in places for file in some):
        return []
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda one: (one.name, one.value))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _label(entry: "EntryPoint") -> str:
    dist = entry.dist
    return entry.value if dist is None else f"{dist.name} {dist.version}"


def _of_module(name: str) -> object:
    return getattr(importlib.import_module(name), "PLUGIN", None)


def _had(package: str, load: Callable[[], object]) -> Plugin | None:
    """The plugin, if it can be had: whatever its code raises is told as the package's."""
    try:
        found = load()
    except (Exception, SystemExit) as error:
        what = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        refuse(package, f"can't be imported: {what}{error}")
        return None
    if not isinstance(found, Plugin):
        refuse(package, "has no PLUGIN (a topics.plugins.Plugin)")
    elif wrong := _misshapen(found):
        refuse(package, f"its PLUGIN has no {wrong}")
    elif found.kit > KIT:
        refuse(
            package, f"needs version {found.kit} of the kit, and this soma-stream has {KIT}: a "
            "newer soma-stream is needed, or an older version of the package",
        )  # fmt: skip
    else:
        return replace(found, package=package)
    return None


def _misshapen(plugin: Plugin) -> str:
    """What a plugin should have and hasn't, for nobody else checks its code; empty: all is well."""
    for name in ("processors", "sources"):
        found = getattr(plugin, name)
        whole = isinstance(found, Mapping) and all(
            isinstance(text, str) for pair in found.items() for text in pair
        )
        if not whole:
            return f"{name} that are a mapping of names"
    if not all(isinstance(one, Topic) for one in _each(plugin.topics)):
        return "topics that are topics.topic.Topic each"
    schemas: object = plugin.schemas
    if not isinstance(schemas, Path | None):
        return "schemas that are a pathlib.Path"
    return "" if type(plugin.kit) is int else "kit that is a whole number"


def _each(found: object) -> tuple[object, ...]:
    return tuple(found) if isinstance(found, tuple | list) else (found,)
