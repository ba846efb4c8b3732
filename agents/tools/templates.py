"""The files that `soma new` writes: a processor that works, and its test. $names are filled in."""

from string import Template

AGENT = Template('''"""$source -> $sink: how many records a tenant sent, and when it fell silent."""

from dataclasses import dataclass
from typing import Any

from agents.kit import Emit, $imports

SINK = "$sink"
SECOND = 1_000_000  # times are microseconds


@dataclass(slots=True)
class Row:
    """What is known of a tenant: a row of the state topic. Whatever is added here has a default."""

    total: int = 0
    silent: bool = False
    due: int | None = None  # when `on_time` is to be called


def fold(row: Row, record: Any, out: Emit) -> None:
    """A record came: change the row, write what follows. No clock, no I/O, no random numbers."""
    row.total += 1
    row.silent = False
    row.due = record.log_ms * 1000 + out.setting("silence_s") * SECOND
    if row.total % out.setting("every") == 0:
        tell(row, $time, out)


def on_time(row: Row, now: int, out: Emit) -> None:
    """Nothing came for `silence_s`."""
    row.silent = True
    tell(row, now, out)


def tell(row: Row, ts: int, out: Emit) -> None:
    """Write the row as it is."""
    out.to(SINK, {"tenant": out.tenant, "ts": ts, "total": row.total, "silent": row.silent})


PROCESSOR = RowProcessor(
    "$name",
    source="$source",
    sinks=(SINK,),
    row=Row,
    fold=fold,
    on_time=on_time,$reads
    settings={
        "every": Setting(10, "a record for each n-th of the source", 1, 1_000_000),
        "silence_s": Setting(60, "time without a record until a tenant is silent", 1, 86_400),
    },
)
''')

TEST = Template('''"""What $name makes of $source."""

$houses
$samples


def told(driver: Driver) -> list[tuple[str, int, bool]]:
    """Tenant, total and silence of each record written since the last call."""
    records = [one.record or {} for one in driver.take()]
    return [(one["tenant"], one["total"], one["silent"]) for one in records]


def test_each_nth_record_is_told() -> None:
    driver = Driver(PROCESSOR)
    driver.setting("every", 2)
    driver.send_all([RECORD] * 3, tenant="a")
    driver.send_all([RECORD] * 2, tenant="b")
    assert told(driver) == [("a", 2, False), ("b", 2, False)]
    assert {tenant: row["total"] for tenant, row in driver.rows.items()} == {"a": 3, "b": 2}


def test_the_silent_are_told_once_whatever_restarts() -> None:
    driver = Driver(PROCESSOR)
    driver.send(RECORD, tenant="a")
    driver.restart()
    driver.tick(driver.time + 59 * SECOND)
    assert told(driver) == []
    driver.tick(driver.time + 1 * SECOND)
    driver.tick(driver.time + 60 * SECOND)
    assert told(driver) == [("a", 1, True)]
    driver.send(RECORD, tenant="a")
    assert driver.rows["a"]["total"] == 2 and not driver.rows["a"]["silent"]


def test_a_setting_out_of_range_is_refused() -> None:
    driver = Driver(PROCESSOR)
    for value in (0, "often"):
        try:
            driver.setting("every", value)
        except ValueError as error:
            assert "every is a whole number from 1" in str(error)
        else:
            raise AssertionError(value)
''')

SAMPLES = Template('''"""Records and settings to try $name with (for the contract suite too)."""

from typing import Any

import numpy as np

RECORD: dict[str, Any] = $record


def records(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """Records of five tenants."""
    return [RECORD | {"tenant": f"tenant-{k}"} for k in rng.integers(0, 5, n).tolist()]


def settings() -> list[tuple[str, str]]:
    """Valid values of every setting."""
    return [("every", "1"), ("every", "3"), ("silence_s", "60"), ("forget_after_s", "3600")]
''')

OUTPUT = Template("""{
  "type": "record",
  "name": "$schema",
  "namespace": "soma",
  "doc": "How many records a tenant had sent, at each n-th of them and when it fell silent.",
  "fields": [
    {"name": "tenant", "type": "string", "doc": "also the record's key"},
    {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}, "doc": "when"},
    {"name": "total", "type": "long", "doc": "records so far"},
    {"name": "silent", "type": "boolean", "doc": "whether it fell silent"}
  ]
}
""")

_BRINGS = """    sources={"$name": "$source"},
    topics=(
        Topic(
            "$sink", "$schema", "tenant", "tenant", ("$name",), ("operators",),
            retention_ms=7 * DAY_MS,
        ),
        state("$name", "tenant"),
    ),
"""

TOPICS = Template(
    '''"""The topics of $name."""

from topics.plugins import Plugin
from topics.topic import DAY_MS, Topic, state

PLUGIN = Plugin(
'''
    + _BRINGS
    + """)  # fmt: skip
"""
)

# --- a package of its own ----------------------------------------------------------------

CONTRACT = Template("""

TestContract = suite(PROCESSOR, samples)  # what every processor must keep
""")

PLUGIN = Template(
    '''"""What this package brings: a processor, its topics and its schemas."""

from pathlib import Path

from topics.plugins import Plugin
from topics.topic import DAY_MS, Topic, state

PLUGIN = Plugin(
    processors={"$name": "$name.processor"},
'''
    + _BRINGS
    + """    schemas=Path(__file__).parent / "avro",
    kit=$kit,
)  # fmt: skip
"""
)

PYPROJECT = Template("""[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "$name"
version = "0.1.0"
description = "A processor of $source for Soma Stream"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["soma-stream>=$version"]

[project.optional-dependencies]
test = ["soma-stream[test]"]

# By this a worker finds the package where it is installed.
[project.entry-points."soma.processors"]
$name = "$name:PLUGIN"

[tool.setuptools]
packages = ["$name"]

[tool.setuptools.package-data]
$name = ["avro/*"]

[tool.pytest.ini_options]
addopts = "-p agents.contract.plugin"
pythonpath = ["."]
soma_plugins = ["$name"]

[tool.ruff]
line-length = 100
""")

README = Template("""# $name

A processor for Soma Stream: `$source` → `$sink`. `$name/processor.py` has its law,
`$name/__init__.py` says what the package brings.

    pip install 'soma-stream[test]'
    pytest            # its own tests, and what every processor must keep
    pip install .     # where workers run: they find it by its entry point
    soma topics apply && SOMA_AGENTS=$name soma worker

Without installing it, from this folder: `export SOMA_PLUGINS=$name PYTHONPATH=.`, and `soma worker`
finds it. When the dataclass of its rows has changed, `soma schema row $name` writes the next
version of their schema. Schemas' ids begin at $first: they must differ from those of other
packages.
""")
