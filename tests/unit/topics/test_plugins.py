"""SOMA_PLUGINS: what it brings, and what is said where it can't. Each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from topics.plugins import KIT, Plugin, PluginError, bring
from topics.schemas import PLUGINS, SchemaError, Schemas
from topics.topic import EPOCHS, Topic, dlq, dlq_of, join, source

SHOWN = """
import json
from agents.engine.registry import processors, processor_names
from agents.settings import load
from topics.catalogue import CATALOGUE
from topics.schemas import schemas
found = processors(["counting"])["counting"]
print(json.dumps({
    "names": processor_names(), "state": found.state_schema, "every": load().counting.every,
    "id": schemas().schema_id("counting_state"), "topic": CATALOGUE["examples.counts"].schema,
    "readers": CATALOGUE["cog.observations"].readers,
    "dead": CATALOGUE["cog.observations.dlq"].writers, "epochs": CATALOGUE["soma.epochs"].writers,
}))
"""


def run(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | env, capture_output=True, text=True,
        timeout=60, check=False, cwd=Path(__file__).parents[3],
    )  # fmt: skip


def test_a_plugin_brings_processors_settings_topics_and_schemas() -> None:
    done = run(SHOWN, SOMA_PLUGINS="ops.examples", SOMA_COUNTING__EVERY="7")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"counting", "pauses", "integrator"} <= set(found["names"])
    assert (found["state"], found["topic"]) == ("counting_state", "observation_count")
    assert found["every"] == 7 and found["id"] >= PLUGINS
    for names in (found["readers"], found["dead"], found["epochs"]):
        assert {"counting", "pauses", "predictors"} <= set(names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.such.module", "SOMA_PLUGINS: no.such.module: can't be imported: No module named 'no'"),
        ("json", "SOMA_PLUGINS: json: has no PLUGIN (a topics.plugins.Plugin)"),
    ],
)
def test_what_cant_be_had_is_named_in_a_line(name: str, said: str) -> None:
    done = run("import topics.catalogue", SOMA_PLUGINS=name)
    assert (done.returncode, done.stderr) == (1, f"{said}\n")


# A package as pip leaves it: a module, and what says which entry points it has.
INSTALLED = """Metadata-Version: 2.1
Name: foreign-counts
Version: 3.2
"""
WHOLE = (
    "from pathlib import Path\nfrom topics.plugins import Plugin\nfrom topics.topic import Topic\n"
)
ASKED = """
from agents.engine.registry import processor_names
from topics.catalogue import CATALOGUE
from topics.plugins import left_out
from topics.schemas import schemas
schemas()
found = "foreign" in processor_names()
print(sorted(left_out()), found, "foreign.out" in CATALOGUE)
"""


def installed(place: Path, code: str, ids: str = "{}") -> None:
    """A package foreign-counts 3.2 with this code and these ids."""
    (place / "foreign.py").write_text(WHOLE + code)
    info = place / "foreign_counts-3.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(INSTALLED)
    (info / "entry_points.txt").write_text("[soma.processors]\nforeign = foreign:PLUGIN\n")
    (place / "avro").mkdir()
    (place / "avro" / "ids.json").write_text(ids)
    schema = {"type": "record", "name": "r", "namespace": "soma", "doc": "x", "fields": []}
    (place / "avro" / "r.v1.avsc").write_text(json.dumps(schema))


BY = "foreign-counts 3.2: "
GIVES = (
    "PLUGIN = Plugin({'%s': 'foreign'}, {'%s': '%s'}, schemas=Path(__file__).parent / 'avro', "
    "topics=(Topic('%s', None, '', '', (), ()),), kit=%d)"
)


def gives(
    name: str = "foreign",
    source: str = "cog.observations",
    sink: str = "foreign.out",
    kit: int = KIT,
) -> str:
    return GIVES % (name, name, source, sink, kit)


@pytest.mark.parametrize(
    ("code", "ids", "said"),
    [
        ("import nowhere", "{}", "can't be imported: No module named 'nowhere'"),
        ("1 / 0", "{}", "can't be imported: ZeroDivisionError: division by zero"),
        ("PLUGIN = Plugin(tomorrow=1)", "{}", "can't be imported: TypeError: "),
        ("raise SystemExit('no')", "{}", "can't be imported: SystemExit: no"),
        ("PLUGIN = 5", "{}", "has no PLUGIN (a topics.plugins.Plugin)"),
        ("PLUGIN = Plugin(['foreign'])", "{}", "has no processors that are a mapping of names"),
        ("PLUGIN = Plugin(sources={'foreign': 5})", "{}", "has no sources that are a mapping of"),
        ("PLUGIN = Plugin(topics=('foreign.out',))", "{}", "has no topics that are topics.topic"),
        ("PLUGIN = Plugin(topics=5)", "{}", "has no topics that are topics.topic.Topic each"),
        ("PLUGIN = Plugin(schemas='avro')", "{}", "has no schemas that are a pathlib.Path"),
        ("PLUGIN = Plugin(kit='1')", "{}", "has no kit that is a whole number"),
        (gives(kit=KIT + 1), "{}", f"needs version {KIT + 1} of the kit, and this soma-stream has"),
        (gives(sink="cog.segments"), "{}", "there is a topic cog.segments already"),
        (gives(source="cog.nowhere"), "{}", "foreign: there is no topic cog.nowhere to read"),
        (gives(name="predictors"), "{}", "there is a processor predictors already"),
        (gives(), '{"7": "r.v1"}', f"ids of plugins begin at {PLUGINS}, not 7"),
        (gives(), '{"1000": "gone.v1"}', "gone.v1.avsc: [Errno 2]"),
    ],
)
def test_an_installed_package_that_cant_be_had_is_named_and_left_out_where_told_so(
    code: str, ids: str, said: str, tmp_path: Path
) -> None:
    installed(tmp_path, code, ids)
    root = Path(__file__).parents[3]
    there = {"PYTHONPATH": f"{tmp_path}:{root}"}
    refused = run(ASKED, **there)
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
    assert refused.stderr.startswith(BY) and said in refused.stderr
    done = run(ASKED, SOMA_PLUGINS_OPTIONAL="*", **there)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(BY) and "going on without it" in done.stderr
    assert done.stdout.startswith("['foreign-counts 3.2'] False")


def test_who_may_be_left_out_is_named(tmp_path: Path) -> None:
    installed(tmp_path, "PLUGIN = 5")
    there = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}
    optional = {"foreign": 1, "another,foreign-count": 1, "another, foreign-counts": 0}
    for names, status in optional.items():
        assert run(ASKED, SOMA_PLUGINS_OPTIONAL=names, **there).returncode == status, names
    assert run(
        ASKED, SOMA_PLUGINS="json", SOMA_PLUGINS_OPTIONAL="json,foreign-counts", **there
    ).stdout


def test_an_installed_package_is_found_by_its_entry_point_once(tmp_path: Path) -> None:
    installed(tmp_path, gives(), '{"1000": "r.v1"}')
    there = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"}
    for named in ("", "foreign"):
        done = run(ASKED, SOMA_PLUGINS=named, **there)
        assert (done.returncode, done.stdout) == (0, "[] True True\n"), done.stderr


def catalogue() -> dict[str, Topic]:
    epochs = Topic(EPOCHS, "epoch", "", "", ("a",), ("b",))
    return {EPOCHS: epochs, "in": source("in", "x", ("users",), ("other",))}


def test_topics_that_are_there_and_sources_that_arent() -> None:
    there = catalogue()
    with pytest.raises(PluginError, match="there is a topic in already"):
        bring(Plugin(topics=(source("in", "x", (), ()),)), there)
    with pytest.raises(PluginError, match="mine: there is no topic out to read"):
        bring(Plugin(sources={"mine": "out"}, topics=(source("new", "x", (), ()),)), there)
    assert there == catalogue(), "all of it or nothing"


def test_who_joins_reads_and_writes_with_the_others() -> None:
    topics = catalogue()
    join(topics, "one", "in")
    join(topics, "two", "in")
    join(topics, "two", "in")
    assert topics["in"].readers == ("other", "one", "two")
    assert topics["in"].public
    assert topics[dlq_of("in")].writers == ("one", "two")
    assert topics[dlq_of("in")].config == dlq("in", "x").config
    assert topics[EPOCHS].writers == ("a", "one", "two")


def test_ids_of_plugins_are_their_own(tmp_path: Path) -> None:
    known = Schemas()
    schema = {"type": "record", "name": "r", "namespace": "soma", "doc": "x", "fields": []}
    (tmp_path / "r.v1.avsc").write_text(json.dumps(schema))
    for number, said in ((5, f"ids of plugins begin at {PLUGINS}, not 5"), (PLUGINS, "")):
        (tmp_path / "ids.json").write_text(json.dumps({str(number): "r.v1"}))
        if said:
            with pytest.raises(SchemaError, match=said):
                known.add(tmp_path)
        else:
            known.add(tmp_path)
    assert known.schema_id("r") == PLUGINS
    (tmp_path / "ids.json").write_text(json.dumps({str(PLUGINS): "s.v1"}))
    with pytest.raises(SchemaError, match=f"the id {PLUGINS} is r.v1's, not s.v1's"):
        known.add(tmp_path)
