"""The next version of a row's schema, from its dataclass (`soma schema row`)."""

import importlib
import json
from pathlib import Path

from agents.engine.registry import modules
from agents.kit.schema import RowMismatch
from agents.tools.newprocessor import CantMakeError, give_id
from topics import schemacheck
from topics.compat import unreadable
from topics.plugins import plugins
from topics.schemas import PLUGINS, RESERVED, folder, schemas

ID_MAX = 1 << 31


def write(processor: str) -> Path | None:
    """Write the .avsc, its id and fingerprint; None where the newest version is right already.

    CantMakeError if there is no such processor, or rows that were written couldn't be read.
    """
    homes = modules()
    if processor not in homes:
        there = ", ".join(sorted(homes))
        raise CantMakeError(f"no such processor: {processor[:40]}; there are {there}")
    try:
        importlib.import_module(homes[processor])
    except RowMismatch as error:
        wanted = error.wanted
    else:
        return None
    name, known = str(wanted["name"]), schemas()
    versions = known.versions(name)
    for version in versions:
        if problems := unreadable(wanted, known.raw(name, version)):
            raise CantMakeError(
                f"{name}.v{version} couldn't be read any more: {'; '.join(problems)}. A field may "
                "come with a default, go, or become wider (int to float)"
            )
    place, low, high = _place(processor)
    stem = f"{name}.v{(versions or [0])[-1] + 1}"
    path = place / f"{stem}.avsc"
    path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
    give_id(place, stem, low, high)
    schemacheck.record(place)
    return path


def _place(processor: str) -> tuple[Path, int, int]:
    """Where the processor's schemas are, and which ids they have."""
    for plugin in plugins():
        if processor in plugin.processors and plugin.schemas is not None:
            return plugin.schemas, PLUGINS, ID_MAX
    return folder(), 1, RESERVED
