"""Writes a new row processor into a checkout: its code, test, schemas and topics (`soma new`).

Where there is no checkout, newpackage.py writes a package of its own.
"""

import json
import keyword
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agents
from agents.engine.registry import processor_names, service_names
from agents.engine.warm import sample
from agents.tools import templates
from topics.catalogue import CATALOGUE
from topics.schemas import RESERVED, schemas

NAME = re.compile(r"[a-z][a-z0-9]{1,30}")
TS = 1_750_000_000_000_000  # of samples: in the past of the tests' log
CHECK_S = 120.0


class CantMakeError(Exception):
    """Why there can't be such a processor; the text is for people."""


@dataclass(frozen=True, slots=True)
class New:
    """A processor that isn't there yet."""

    root: Path
    name: str
    source: str

    @property
    def sink(self) -> str:
        """Where its records go."""
        return f"cog.{self.name}"

    @property
    def schema(self) -> str:
        """Of these records."""
        return f"{self.name}_event"


def root_of(package: Path | None = None) -> Path:
    """The checkout that this code is in. CantMakeError if it is installed as a package."""
    root = (package or Path(agents.__file__)).resolve().parents[1]
    if not (root / "pyproject.toml").is_file() or not (root / "tests" / "unit").is_dir():
        raise CantMakeError(
            f"{root} is no checkout of Soma Stream: `soma new` writes the processor, its test, its "
            "schemas and topics into one"
        )
    return root


def checked(root: Path, name: str, source: str) -> New:
    """The processor, if it can be. CantMakeError says why it can't."""
    new = New(root, name, source)
    check_name(name)
    folder = root / "agents" / name
    if taken(name) or folder.exists():
        raise CantMakeError(f"there is {folder.relative_to(root)} already: choose another name")
    check_free(new)
    return new


def check_name(name: str) -> None:
    """CantMakeError if no processor can have this name."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise CantMakeError(
            f"no processor can be named {name[:40]!r}: 2 to 31 lower-case letters and digits, a "
            "letter first"
        )


def taken(name: str) -> bool:
    """Whether a processor or service has this name."""
    return name in processor_names() or name in service_names()


def check_free(new: New) -> None:
    """CantMakeError where its topics or schemas are there, or what it reads isn't."""
    for topic in (new.sink, f"soma.{new.name}.state"):
        if topic in CATALOGUE:
            raise CantMakeError(f"there is a topic {topic} already: choose another name")
    for schema in (new.schema, f"{new.name}_state"):
        if schema in schemas().names():
            raise CantMakeError(f"there is a schema {schema} already: choose another name")
    if new.source not in CATALOGUE:
        known = ", ".join(sorted(t for t in CATALOGUE if _readable(t)))
        raise CantMakeError(f"there is no topic {new.source[:60]!r}; there are {known}")
    if not _readable(new.source):
        raise CantMakeError(f"{new.source} has no records with a tenant: no rows can be kept of it")


def _readable(topic: str) -> bool:
    schema = CATALOGUE[topic].schema
    return schema is not None and "tenant" in _types(schema)


def _types(schema: str) -> dict[str, Any]:
    """Each field's type; of a time, which is a long with a logical type, the long."""
    types = {field["name"]: field["type"] for field in schemas().newest(schema)["fields"]}
    return {name: one["type"] if isinstance(one, dict) else one for name, one in types.items()}


def filled_in(new: New, home: str, samples: str) -> dict[str, str]:
    """What templates are filled with: `home` is the module that declares the processor, `samples`
    imports what it is tried with.
    """
    schema = CATALOGUE[new.source].schema
    assert schema is not None
    fields = _types(schema)
    wanted = {"domain": "string", "ts": "long"}  # what `Reads` takes them for where it isn't told
    lacking = [name for name, kind in wanted.items() if fields.get(name) != kind]
    reads = f"Reads({', '.join(f'{name}=None' for name in lacking)})"
    imported = (f"from {home} import PROCESSOR, SECOND", "from agents.kit import Driver")
    return {
        "name": new.name,
        "source": new.source,
        "sink": new.sink,
        "schema": new.schema,
        "imports": "Reads, RowProcessor, Setting" if lacking else "RowProcessor, Setting",
        "reads": f"\n    reads={reads}," if lacking else "",
        "time": "record.log_ms * 1000" if "ts" in lacking else "record.ts",
        "houses": "\n".join(sorted(imported)),
        "samples": samples,
        "record": _literal(_sample(schema)),
    }


def put(made: dict[Path, str]) -> None:
    """Write these files."""
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write(new: New) -> list[Path]:
    """Write everything; returns the files, made and changed. The row's schema comes last."""
    trials = f"from tests.unit.agents.{new.name}.samples import RECORD"
    values = filled_in(new, f"agents.{new.name}.agent", trials)
    house, trial = new.root / "agents" / new.name, new.root / "tests/unit/agents" / new.name
    made = {
        house / "__init__.py": f'"""The processor {new.name}: agent.py declares it."""\n',
        house / "agent.py": templates.AGENT.substitute(values),
        trial / "__init__.py": "",
        trial / "samples.py": templates.SAMPLES.substitute(values),
        trial / f"test_{new.name}.py": templates.TEST.substitute(values),
        new.root / "avro" / f"{new.schema}.v1.avsc": templates.OUTPUT.substitute(values),
        new.root / "topics" / "made" / f"{new.name}.py": templates.TOPICS.substitute(values),
    }
    put(made)
    ids = give_id(new.root / "avro", f"{new.schema}.v1", 1, RESERVED)
    return [*made, ids, _row_schema(new), _settings_page(new)]


def _sample(schema: str) -> dict[str, Any]:
    """A record to try it with."""
    fields = _types(schema)
    record = sample(schemas().newest(schema))
    told = {"tenant": "tenant-0", "ts": TS}
    return record | {name: value for name, value in told.items() if name in fields}


def _literal(record: dict[str, Any]) -> str:
    """A record as Python's source."""
    lines = []
    for name, value in record.items():
        text = json.dumps(value) if isinstance(value, str) else repr(value)
        text = f"bytes({len(value)})" if isinstance(value, bytes) else text
        lines.append(f'    "{name}": {text},\n')
    return f"{{\n{''.join(lines)}}}"


def give_id(folder: Path, stem: str, low: int, high: int) -> Path:
    """Number a schema in a folder's ids.json: the next id from `low` on, below `high`."""
    path = folder / "ids.json"
    table: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    number = 1 + max((int(n) for n in table if low <= int(n) < high), default=low - 1)
    if number >= high:
        raise CantMakeError(f"{path.name} has no id below {high} left")
    table[str(number)] = stem
    ordered = dict(sorted(table.items(), key=lambda one: int(one[0])))
    path.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")
    return path


def _row_schema(new: New) -> Path:
    """Let a process that sees the new topics write the schema of the rows."""
    made = new.root / "avro" / f"{new.name}_state.v1.avsc"
    soma(new, "schema", "row", new.name)
    return made


def _settings_page(new: New) -> Path:
    """Bring the page of all settings up to date."""
    page = new.root / "ops" / "SETTINGS.md"
    page.write_text(soma(new, "settings", "reference"), encoding="utf-8")
    return page


def soma(new: New, *arguments: str, **env: str) -> str:
    """What a verb says in a process of its own, which sees the new files."""
    done = subprocess.run(
        [sys.executable, "-m", "agents.cli", *arguments], env=os.environ | env,
        cwd=new.root, capture_output=True, text=True, timeout=CHECK_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CantMakeError(f"soma {' '.join(arguments)}: {(done.stdout + done.stderr).strip()}")
    return done.stdout
