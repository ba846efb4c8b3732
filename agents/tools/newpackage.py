"""Writes a package of one's own with a row processor (`soma new` where there is no checkout)."""

from binascii import crc32
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from agents.tools import templates
from agents.tools.newprocessor import (
    CantMakeError,
    New,
    check_free,
    check_name,
    filled_in,
    give_id,
    put,
    soma,
    taken,
)
from topics.plugins import KIT, VARIABLE

# Each package begins at an id that follows from its name, and has a thousand: two packages that
# know nothing of each other have the same ones in one case of two million.
IDS_FROM = 1_000_000
PACKAGES, IDS = 2_000_000, 1_000


def checked(place: Path, name: str, source: str) -> New:
    """The package NAME in a folder of this name, if it can be. CantMakeError says why it can't."""
    new = New(place / name, name, source)
    check_name(name)
    if new.root.exists():
        raise CantMakeError(f"there is {new.root} already: choose another name, or another folder")
    if taken(name):
        raise CantMakeError(f"there is a processor {name} already: choose another name")
    if find_spec(name) is not None:
        raise CantMakeError(f"there is a Python module {name} already: choose another name")
    check_free(new)
    return new


def first_id(name: str) -> int:
    """Where the ids of a package's schemas begin."""
    return IDS_FROM + crc32(name.encode()) % PACKAGES * IDS


def write(new: New) -> list[Path]:
    """Write everything; returns the files."""
    name, root, code = new.name, new.root, new.root / new.name
    first = first_id(name)
    values = filled_in(
        new, f"{name}.processor", "from tests import samples\nfrom tests.samples import RECORD"
    )
    values |= {"kit": str(KIT), "version": _version(), "first": str(first)}
    values["houses"] = (
        "from agents.contract import suite\nfrom agents.kit import Driver\n\n"
        f"from {name}.processor import PROCESSOR, SECOND"
    )
    made = {
        root / "pyproject.toml": templates.PYPROJECT.substitute(values),
        root / "README.md": templates.README.substitute(values),
        code / "__init__.py": templates.PLUGIN.substitute(values),
        code / "processor.py": templates.AGENT.substitute(values),
        code / "avro" / "ids.json": "{}\n",
        code / "avro" / f"{new.schema}.v1.avsc": templates.OUTPUT.substitute(values),
        root / "tests" / "__init__.py": "",
        root / "tests" / "samples.py": templates.SAMPLES.substitute(values),
        root / "tests" / f"test_{name}.py": templates.TEST.substitute(values)
        + templates.CONTRACT.substitute(values),
    }
    put(made)
    give_id(code / "avro", f"{new.schema}.v1", first, first + IDS)
    soma(new, "schema", "row", name, **{VARIABLE: name})
    rows = code / "avro" / f"{name}_state.v1.avsc"
    return [*made, rows, code / "avro" / "fingerprints.json"]


def _version() -> str:
    """Of the installed soma-stream, which is the oldest that the package was tried with."""
    try:
        return version("soma-stream")
    except PackageNotFoundError:  # run from a folder
        return "0.1.0"
