"""`soma new` where there is no checkout: a package of one's own, tried as it is and installed."""

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.tools import newpackage, newprocessor
from topics import compiled
from topics.schemacheck import ID_MAX
from topics.schemas import PLUGINS

ROOT = Path(__file__).parents[4]
LIMIT_S = 240
NAME = "tally"
once = pytest.mark.skipif(
    bool(compiled.config.BOUNDSCHECK), reason="what `soma new` writes has no kernels"
)


def run(place: Path, *words: str, path: Sequence[Path] = ()) -> subprocess.CompletedProcess[str]:
    """A program in a folder, which finds no modules but those installed, and those of `path`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SOMA_", "PYTEST_", "PYTHON"))}
    env |= {"PYTHONPATH": ":".join(map(str, path))} if path else {}
    # A package is tried without a net: what pip would look for is there, or it fails.
    return subprocess.run(
        words, cwd=place, env=env | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip


@pytest.mark.timeout(2 * LIMIT_S)
@once
def test_a_package_passes_its_own_tests_and_the_contract_suite(tmp_path: Path) -> None:
    made = run(tmp_path, sys.executable, "-m", "agents.cli", "new", NAME, path=[ROOT])
    assert made.returncode == 0, made.stderr
    files = [tmp_path / line for line in made.stdout.split()]
    there = {path for path in (tmp_path / NAME).rglob("*") if path.is_file()}
    assert set(files) == {path for path in there if path.suffix != ".pyc"}
    folder = tmp_path / NAME
    tried = run(folder, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", path=[ROOT])
    assert tried.returncode == 0 and re.search("1[0-9] passed", tried.stdout), tried.stdout
    ids = {int(number) for number in json.loads((folder / NAME / "avro/ids.json").read_text())}
    assert len(ids) == 2 and min(ids) == newpackage.first_id(NAME)
    for style in (["check"], ["format", "--check"]):
        styled = run(folder, "ruff", *style, ".")
        assert styled.returncode == 0, styled.stdout
    again = run(tmp_path, sys.executable, "-m", "agents.cli", "new", NAME, path=[ROOT])
    assert again.returncode == 1 and "there is " in again.stderr


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("Pulse", "cog.observations", "no processor can be named 'Pulse'"),
        ("predictors", "cog.observations", "there is a processor predictors already"),
        ("json", "cog.observations", "there is a Python module json already"),
        ("segments", "cog.observations", "there is a topic cog.segments already"),
        ("pulse", "cog.obs", "there is no topic 'cog.obs'; there are brain"),
    ],
)
def test_what_cant_be_is_refused_and_nothing_written(
    name: str, source: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(newprocessor.CantMakeError) as error:
        newpackage.checked(tmp_path, name, source)
    assert str(error.value).startswith(said)
    assert not list(tmp_path.iterdir())


def test_ids_of_packages_are_far_apart_and_within_what_clients_take() -> None:
    names = [f"{a}{b}" for a in ("count", "pulse", "beat", "tally") for b in range(500)]
    firsts = {newpackage.first_id(name) for name in names}
    assert len(firsts) >= len(names) - 4
    assert all(PLUGINS <= one <= ID_MAX - newpackage.IDS for one in firsts)


@pytest.mark.proof
@pytest.mark.timeout(4 * LIMIT_S)
@once
def test_the_wheel_makes_a_package_in_an_empty_folder_and_finds_it_installed(
    tmp_path: Path,
) -> None:
    """As a stranger does it: pip alone, a venv of its own, no net, and nothing of this tree."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    alone = ("--no-deps", "--no-build-isolation", "--quiet")
    built = run(ROOT, *pip, "wheel", *alone, "--wheel-dir", str(tmp_path), str(ROOT))
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("soma_stream-*.whl")
    python = _environment(tmp_path / "env")
    own = (python, "-m", "pip", "--disable-pip-version-check", "install", *alone)
    assert (done := run(tmp_path, *own, str(wheel))).returncode == 0, done.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    soma = str(Path(python).with_name("soma"))
    assert (made := run(empty, soma, "new", NAME)).returncode == 0, made.stderr
    tried = run(empty / NAME, python, "-m", "pytest", "-q")
    assert tried.returncode == 0 and re.search("1[0-9] passed", tried.stdout), tried.stdout
    seen = "from agents.engine.registry import processors as p; print(*p(['tally'])['tally'].sinks)"
    assert "no such processor" in run(empty, python, "-c", seen).stderr
    assert (done := run(empty / NAME, *own, ".")).returncode == 0, done.stderr
    assert run(empty, python, "-c", seen).stdout == "cog.tally\n"
    where = "import agents, tally; print(agents.__file__, tally.__file__)"
    found = run(empty, python, "-c", where).stdout.split()
    assert all(one.startswith(str(tmp_path / "env")) for one in found), found


def _environment(place: Path) -> str:
    """A virtual environment with what soma-stream depends on, and without soma-stream itself."""
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    (site,) = place.glob("lib/python3*/site-packages")
    # Plain folders: what lies in them is found, and what leads on to a checkout isn't.
    others = [one for one in sys.path if one.endswith("site-packages")]
    (site / "others.pth").write_text("".join(f"{one}\n" for one in others))
    return str(python)
