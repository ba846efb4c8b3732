"""What is pinned: by hash, without an address, in both locks the same; and the image's steps."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALL, RUN, BENCH = (ROOT / f"requirements{which}.txt" for which in ("", "-run", "-bench"))
PINNED = re.compile(
    r"(?m)^([a-z0-9._-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)"
)
# What is for those who work on the house, and large or of no use where it runs.
NOT_RUN = {"matplotlib", "mkdocs", "mypy", "pytest", "river", "ruff", "ruptures", "schemathesis"}


def pins(lock: Path) -> dict[str, str]:
    """Version by name."""
    return {name: version for name, version, _ in PINNED.findall(lock.read_text())}


def named(requirements: list[str]) -> set[str]:
    """What distributions are called, without versions and extras."""
    return {re.split(r"[\[<>=!~;]", one)[0].strip().lower() for one in requirements}


@pytest.mark.parametrize("lock", [ALL, RUN, BENCH], ids=lambda lock: lock.name)
def test_each_is_pinned_by_hash_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    lines = [line for line in text.splitlines() if line and line[0] not in " #"]
    assert len(lines) == len(pins(lock)) > 50
    assert "://" not in text and "--index" not in text and str(ROOT) not in text


def test_what_runs_is_what_was_tested() -> None:
    every, runs = pins(ALL), pins(RUN)
    assert {name: every.get(name) for name in runs} == runs
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert named(project["dependencies"]) <= set(runs)
    assert named(project["optional-dependencies"]["build"]) <= set(runs)
    assert not NOT_RUN & set(runs) and set(every) >= NOT_RUN


def test_both_locks_are_made_by_one_verb_the_smaller_one_from_the_other() -> None:
    said = subprocess.run(
        ["make", "-n", "lock"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    made = [shlex.split(line) for line in said.splitlines() if "pip-compile" in line]
    assert [line[line.index("-o") + 1] for line in made] == [ALL.name, RUN.name, BENCH.name]
    assert made[1][made[1].index("--constraint") + 1] == ALL.name


def test_the_image_copies_what_there_is_and_runs_as_somebody() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [
        one
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for one in line.split()[1:-1]
    ]
    assert RUN.name in copied and all((ROOT / one).exists() for one in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    tops = {one.rstrip("*") for one in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert tops <= set(copied)
    assert lines.index("USER soma") < lines.index("RUN soma warm")
