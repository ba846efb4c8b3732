"""SOMA_PLUGINS: what it brings, and what is said where it can't. Each in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from topics.plugins import Plugin, bring
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
        ("no.such.module", "SOMA_PLUGINS: no.such.module can't be imported: No module named 'no'"),
        ("json", "SOMA_PLUGINS: json has no PLUGIN (a topics.plugins.Plugin)"),
    ],
)
def test_what_cant_be_had_is_named_in_a_line(name: str, said: str) -> None:
    done = run("import topics.catalogue", SOMA_PLUGINS=name)
    assert (done.returncode, done.stderr) == (1, f"{said}\n")


def catalogue() -> dict[str, Topic]:
    epochs = Topic(EPOCHS, "epoch", "", "", ("a",), ("b",))
    return {EPOCHS: epochs, "in": source("in", "x", ("users",), ("other",))}


def test_topics_that_are_there_and_sources_that_arent() -> None:
    with pytest.raises(SystemExit, match="there is a topic in already"):
        bring(Plugin(topics=(source("in", "x", (), ()),)), catalogue())
    with pytest.raises(SystemExit, match="mine: there is no topic out to read"):
        bring(Plugin(sources={"mine": "out"}), catalogue())


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
