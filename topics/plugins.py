"""Packages that bring processors, topics and schemas of their own: SOMA_PLUGINS=module,module.

Each module has a `PLUGIN`. It is read before the catalogue is there, so it imports nothing of ours
but `topics.plugins` and `topics.topic`; its processors' modules are imported when they are chosen.
"""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from topics.topic import Topic, join

VARIABLE = "SOMA_PLUGINS"  # read here, before there are settings; they show it all the same


@dataclass(frozen=True, slots=True)
class Plugin:
    """What a package of one's own brings.

    `processors` says which module's PROCESSOR it is, by name, and `sources` what each reads;
    `schemas` is a folder as avro/ is, with an ids.json whose ids begin at `topics.schemas.PLUGINS`.
    """

    processors: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    topics: tuple[Topic, ...] = ()
    schemas: Path | None = None


@cache
def plugins() -> tuple[Plugin, ...]:
    """Those that SOMA_PLUGINS names. Exits, saying which, where one can't be had."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return tuple(_imported(name) for name in names)


def _imported(name: str) -> Plugin:
    try:
        found = getattr(importlib.import_module(name), "PLUGIN", None)
    except ImportError as error:
        raise SystemExit(f"{VARIABLE}: {name} can't be imported: {error}") from error
    if not isinstance(found, Plugin):
        raise SystemExit(f"{VARIABLE}: {name} has no PLUGIN (a topics.plugins.Plugin)")
    return found


def bring(plugin: Plugin, catalogue: dict[str, Topic]) -> None:
    """Take a plugin's topics into the catalogue. Exits where one is there already."""
    if clash := [topic.name for topic in plugin.topics if topic.name in catalogue]:
        raise SystemExit(f"{VARIABLE}: there is a topic {', '.join(clash)} already")
    catalogue.update({topic.name: topic for topic in plugin.topics})
    for processor, source in plugin.sources.items():
        try:
            join(catalogue, processor, source)
        except ValueError as error:
            raise SystemExit(f"{VARIABLE}: {error}") from error
