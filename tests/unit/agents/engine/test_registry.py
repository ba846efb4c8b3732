"""Processors are found by their folders, and loaded only when chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from agents.engine.registry import (
    loaded,
    processor_names,
    processors,
    service_names,
    services,
)
from agents.settings import Settings, SettingsError

ROOT = Path(__file__).parents[4]


def test_the_processors_there_are() -> None:
    assert {"integrator", "predictors"} <= set(processor_names())
    assert not {"engine", "commands", "projections"} & set(processor_names())
    assert sorted(processors()) == processor_names()


def test_only_the_chosen_are_given() -> None:
    assert list(processors(["predictors"])) == ["predictors"]
    assert list(processors(["predictors", "integrator"])) == ["integrator", "predictors"]
    assert list(processors(["predictors", "projections", "predictors"])) == ["predictors"]
    assert processors(["projections"]) == {}


def test_only_the_chosen_are_loaded() -> None:
    code = (
        "import sys; from agents.engine.registry import processors; processors(['predictors']);"
        "print('agents.predictors.agent' in sys.modules, 'agents.integrator.fold' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


def test_every_unknown_name_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no such processor: kitchen, loft; there are") as error:
        processors(["loft", "integrator", "kitchen"])
    assert all(name in str(error.value) for name in [*processor_names(), *service_names()])


BRINGS = """
from topics.plugins import Plugin
PLUGIN = Plugin({{"{name}": "{name}s"}}, {{"{name}": "cog.observations"}})
"""
DECLARES = """
from dataclasses import dataclass
from agents.kit import RowProcessor
@dataclass
class Row:
    n: int = 0
PROCESSOR = RowProcessor("odd", "cog.odd", (), Row, lambda *_: None)
"""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nowhere", "odd: odds1 can't be imported: No module named 'nowhere'"),
        ("PROCESSOR = 5", "odd: odds2 must declare PROCESSOR, a Processor of this name"),
    ],
)
def test_what_declares_no_processor_is_named(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = next(word.rstrip(":") for word in said.split() if word.startswith("odds"))
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=said):
        loaded("odd", module)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("odd", "odd: there is no topic cog.odd; the catalogue has cog.observations"),
        ("predictors", "SOMA_PLUGINS: brings: there is a processor predictors already"),
    ],
)
def test_a_worker_ends_in_a_line_where_a_processor_cant_be_and_others_start_without_it(
    name: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "brings.py").write_text(BRINGS.format(name=name))
    (tmp_path / f"{name}s.py").write_text(DECLARES)
    env = {k: v for k, v in os.environ.items() if not k.startswith("SOMA_")} | {
        "SOMA_PLUGINS": "brings", "PYTHONPATH": f"{tmp_path}:{ROOT}",
        "SOMA_KAFKA_BOOTSTRAP": "127.0.0.1:1", "SOMA_HOME": str(tmp_path),
    }  # fmt: skip

    def run(*arguments: str, **more: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, *arguments], env=env | more, cwd=ROOT, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    status, text = run("-m", "agents.cli", "worker", SOMA_AGENTS=name)
    assert status == 1 and text.count("\n") == 1 and said in text, text
    if name == "odd":
        other = "from agents.engine.registry import processors; processors(['predictors'])"
        assert run("-c", other) == (0, "")
        status, text = run("-m", "agents.cli", "worker", SOMA_AGENTS=name, SOMA_ODD__N="1")
        assert status == 1 and text.count("\n") == 1 and said in text, text


def test_services_are_found_and_chosen_as_processors_are() -> None:
    every = ["canary", "gateway", "outbox", "projections", "replay", "snapshots"]
    assert service_names() == every
    stores = {"redis_url": SecretStr("redis://127.0.0.1:1/0"), "memory_http_endpoint": "http://m"}
    both = Settings(agents=("gateway", "projections", "predictors"), **stores)
    found = services(both)
    assert [one.name for one in found] == ["gateway", "frames"]
    assert services(Settings(agents=("predictors",), **stores)) == []
    for one in found:
        one.stop()


def test_a_service_that_is_asked_for_and_has_nothing_to_do_is_an_error() -> None:
    with pytest.raises(SettingsError, match="SOMA_MEMORY_HTTP_ENDPOINT"):
        services(Settings(agents=("gateway",)))
