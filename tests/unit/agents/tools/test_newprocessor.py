"""`soma new` in a copy of this tree: what it writes works, and it refuses what can't be."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.tools import newprocessor
from topics import compiled
from topics.catalogue import CATALOGUE

ROOT = Path(__file__).parents[4]
PARTS = ("agents", "avro", "stores", "topics", "tests", "ops", "pyproject.toml")
LIMIT_S = 240
MADE = (("pulse", "cog.observations"), ("beats", "memory.events"))
once = pytest.mark.skipif(
    bool(compiled.config.BOUNDSCHECK), reason="what `soma new` writes has no kernels"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout."""
    copy = tmp_path_factory.mktemp("tree")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    yield copy
    shutil.rmtree(copy)


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of the copy, whatever this process has imported."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=tree, env=env | {"PYTHONPATH": str(tree)},
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip


def folder_of(tree: Path, name: str) -> Path:
    return tree / "tests/unit/agents" / name


def trials(tree: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """The processors' own tests, each named as it passes."""
    folders = [str(folder_of(tree, name)) for name in names]
    return run(tree, "pytest", "-v", "-p", "no:cacheprovider", *folders)


def new(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(tree, "agents.cli", "new", *arguments)


@pytest.mark.timeout(4 * LIMIT_S)
@once
def test_new_processors_pass_their_own_tests(tree: Path) -> None:
    files: list[Path] = []
    for name, source in MADE:
        made = new(tree, name, "--source", source)
        assert made.returncode == 0, made.stderr
        files += [tree / line for line in made.stdout.split()]
        code, test = tree / "agents" / name / "agent.py", folder_of(tree, name)
        assert len(code.read_text().splitlines()) <= 60
        assert len((test / f"test_{name}.py").read_text().splitlines()) <= 60
        assert f"SOMA_{name.upper()}__EVERY" in (tree / "ops/SETTINGS.md").read_text()
    assert all(file.is_file() for file in files) and len(files) == 10 * len(MADE)
    tried = trials(tree, *(name for name, _ in MADE))
    assert tried.returncode == 0, tried.stdout
    for name, _ in MADE:  # each by its own count
        assert tried.stdout.count(f"/test_{name}.py::") == 3, tried.stdout
    assert f"{3 * len(MADE)} passed" in tried.stdout
    checked = run(tree, "agents.cli", "schema", "check")
    assert checked.returncode == 0, checked.stderr
    code_files = [str(file) for file in files if file.suffix == ".py"]
    for style in (["check"], ["format", "--check"]):
        styled = run(tree, "ruff", *style, *code_files, "topics")
        assert styled.returncode == 0, styled.stdout
    again = new(tree, MADE[0][0])
    assert again.returncode == 1 and f"there is agents/{MADE[0][0]} already" in again.stderr


@pytest.mark.timeout(2 * LIMIT_S)
@once
def test_a_row_that_grew_gets_the_next_version_of_its_schema(tree: Path) -> None:
    assert new(tree, "grows").returncode == 0
    code = tree / "agents/grows/agent.py"
    code.write_text(
        code.read_text().replace("total: int = 0\n", "total: int = 0\n    more: str = ''\n")
    )
    refused = trials(tree, "grows")
    assert "more: not in the schema; `soma schema row grows` writes it anew" in refused.stdout
    assert run(tree, "agents.cli", "schema", "row", "grows").stdout == "grows_state.v2.avsc\n"
    assert run(tree, "agents.cli", "schema", "row", "grows").stdout == "Nothing new.\n"
    ids = json.loads((tree / "avro/ids.json").read_text())
    assert "grows_state.v2" in ids.values()
    code.write_text(code.read_text().replace("total: int = 0\n", "total: str = ''\n"))
    narrowed = run(tree, "agents.cli", "schema", "row", "grows")
    assert narrowed.returncode == 1
    assert "grows_state.v1 couldn't be read any more: total: long became string" in narrowed.stderr


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("Pulse", "cog.observations", "no processor can be named 'Pulse'"),
        ("p", "cog.observations", "no processor can be named 'p'"),
        ("class", "cog.observations", "no processor can be named 'class'"),
        ("../x", "cog.observations", "no processor can be named '../x'"),
        ("a" * 32, "cog.observations", "no processor can be named 'aaaaa"),
        ("integrator", "cog.observations", "there is agents/integrator already"),
        ("kit", "cog.observations", "there is agents/kit already"),
        ("segments", "cog.observations", "there is a topic cog.segments already"),
        ("next", "cog.observations", "there is a schema next_event already"),
        ("pulse", "cog.obs", "there is no topic 'cog.obs'; there are brain"),
        ("pulse", "cog.observations.dlq", "cog.observations.dlq has no records with a tenant"),
        ("pulse", "soma.imports", "soma.imports has no records with a tenant"),
    ],
)
def test_what_cant_be_is_refused_and_nothing_written(
    name: str, source: str, said: str, tmp_path: Path
) -> None:
    for house in ("integrator", "kit"):
        (tmp_path / "agents" / house).mkdir(parents=True)
    with pytest.raises(newprocessor.CantMakeError) as error:
        newprocessor.checked(tmp_path, name, source)
    assert str(error.value).startswith(said)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["agents", "integrator", "kit"]


@pytest.mark.parametrize(
    ("source", "reads", "time"),
    [
        ("cog.observations", "", "record.ts"),
        ("memory.events", "Reads(domain=None)", "record.ts"),
        ("cog.segments", "Reads(ts=None)", "record.log_ms * 1000"),
    ],
)
def test_the_engine_checks_what_records_have(source: str, reads: str, time: str) -> None:
    filled = newprocessor.filled_in(newprocessor.New(ROOT, "pulse", source), "home", "")
    assert filled["reads"] == (f"\n    reads={reads}," if reads else "")
    assert (filled["time"], "Reads" in filled["imports"]) == (time, bool(reads))


def test_an_installed_package_isnt_a_checkout(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "agents" / "__init__.py"
    with pytest.raises(newprocessor.CantMakeError, match="is no checkout"):
        newprocessor.root_of(package)
    assert newprocessor.root_of() == ROOT
    assert "cog.pulse" not in CATALOGUE
