"""Kernels compiled ahead: what lacks is compiled once, failures are named, nothing stays behind."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agents.engine import compiling
from agents.engine.compiling import Compiling, CompilingError, units
from agents.engine.registry import processor_names
from topics import compiled

LIMIT_S = 540  # of a process that compiles, on a machine that does much else


def warm(*words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "agents.cli", "warm", *words],
        env={"PATH": "", "SOMA_KERNELS_DIR": str(folder)},
        cwd=compiled.ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_every_processor_has_its_unit_and_the_longest_come_first() -> None:
    assert set(units()) == {*processor_names(), "outbox"}
    assert units()[: len(compiling.LONGEST_FIRST)] == list(compiling.LONGEST_FIRST)
    assert units(["projections", "predictors"]) == ["predictors"]


@pytest.mark.timeout(2 * LIMIT_S + 60)
@pytest.mark.skipif(
    bool(compiled.config.BOUNDSCHECK), reason="what it looks at is the same with bounds checks"
)
def test_what_lacks_is_compiled_once(tmp_path: Path) -> None:
    for k in range(compiled.KEPT + 3):
        (tmp_path / f"compiled.outbox-{k}").touch()
    first = warm("--json", "outbox", folder=tmp_path)
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert (said["folder"], said["rooms"]) == (str(tmp_path), ["outbox"])
    assert said["kernels"] > 10
    assert len(list(tmp_path.glob("compiled.outbox-*"))) == 1 + compiled.KEPT
    files = sorted(tmp_path.rglob("*.nbc"))
    again = warm("outbox", folder=tmp_path)
    assert again.stdout == f"all kernels are there, in {tmp_path}\n"
    assert sorted(tmp_path.rglob("*.nbc")) == files


def test_nothing_is_told_where_nothing_is_known() -> None:
    told: list[tuple[int, int]] = []
    Compiling([]).wait(lambda done, of: told.append((done, of)), 0.05)
    assert told == []


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/proc/x", "SOMA_KERNELS_DIR: /proc/x can't be made: No such file or directory"),
        ("/dev/null", "SOMA_KERNELS_DIR: /dev/null can't be made: File exists"),
        ("kernels", "SOMA_KERNELS_DIR: give a whole path, not kernels"),
        ("others", "SOMA_KERNELS_DIR: others can write "),
    ],
)
def test_a_folder_that_cannot_be_had_is_told_before_anything_is_compiled(
    tmp_path: Path, folder: str, said: str
) -> None:
    place = tmp_path / folder if folder == "others" else Path(folder)
    if folder == "others":
        place.mkdir()
        place.chmod(0o777)
    done = warm("outbox", folder=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {said}") and done.stderr.count("\n") == 1


def test_an_unknown_processor_is_named(tmp_path: Path) -> None:
    done = warm("projector", folder=tmp_path)
    assert done.returncode == 2
    assert "no kernels of: projector" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_fails_is_named_at_once_with_its_last_lines() -> None:
    with pytest.raises(CompilingError, match="kernels of no_such_name ended"):
        Compiling(["no_such_name"]).wait(lambda done, of: None, 10.0 * LIMIT_S)


def test_one_that_cannot_be_heard_leaves_no_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "agents" / "engine"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "compiling.py").write_text("import sys; sys.stdout.buffer.write(bytes([255, 10]))")
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    with pytest.raises(UnicodeDecodeError):
        Compiling(["integrator"]).wait(lambda done, of: None, 0.05)
    for timer in (one for one in threading.enumerate() if isinstance(one, threading.Timer)):
        timer.join(10.0)
        assert not timer.is_alive()


def test_ended_early_nothing_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_KERNELS_DIR", str(tmp_path))
    one = Compiling(["integrator", "predictors", "segmentation"], jobs=1)
    while not one.progress[1]:
        assert one.seconds < 60, "no process has said what it has"
    one.close()
    assert all(process.poll() is not None for process in one._processes)
    assert len(one._processes) == 1
