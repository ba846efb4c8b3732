"""The distribution by itself: what it imports, both clients alike, files that are current."""

import ast
import inspect
import json
import sys
import tomllib
from pathlib import Path

from click.testing import CliRunner

import soma_client
from agents.cli import main
from soma_client import AsyncClient, Client

HERE = Path(soma_client.__file__).parent
KAFKA = {"avro.py": {"fastavro"}, "kafka.py": {"confluent_kafka"}}
NEEDED = {"httpx", "anyio", "httpcore"}  # httpx brings the others, which it stands on


def packages(path: Path) -> set[str]:
    """What a module imports beyond Python's own and this package."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    tops = {name.partition(".")[0] for name in names}
    return tops - set(sys.stdlib_module_names) - {"soma_client"}


def test_it_needs_httpx_alone_and_the_rest_for_kafka() -> None:
    found = {path.name: packages(path) for path in HERE.glob("*.py")}
    kafka = {name: found.pop(name) for name in KAFKA}
    assert kafka == KAFKA
    assert set().union(*found.values()) == NEEDED
    given = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    assert [one.partition(">")[0] for one in given["dependencies"]] == ["httpx"]
    assert (HERE / "py.typed").is_file()


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, tuple[inspect.Signature, str | None]]:
        return {
            name: (inspect.signature(one), one.__doc__)
            for name, one in vars(kind).items()
            if hasattr(one, "__wrapped__")
        }

    assert calls(Client) == calls(AsyncClient)
    assert len(calls(Client)) == 19
    assert all(doc for _, doc in calls(Client).values())
    assert all(inspect.iscoroutinefunction(getattr(AsyncClient, name)) for name in calls(Client))


def test_all_public_names_are_there() -> None:
    assert all(hasattr(soma_client, name) for name in soma_client.__all__)


def test_the_schemas_of_topics_are_the_pipelines() -> None:
    """After a change: soma schema topics > client/soma_client/schemas.json."""
    done = CliRunner(env={"SOMA_PLUGINS": ""}).invoke(main, ["schema", "topics"])
    assert json.loads((HERE / "schemas.json").read_text("utf-8")) == json.loads(done.stdout)


def test_the_readme_is_ten_lines() -> None:
    assert len((HERE.parent / "README.md").read_text("utf-8").splitlines()) <= 10
