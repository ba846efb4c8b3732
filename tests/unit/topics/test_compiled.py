"""The kernels' cache must never outlive the sources it was made of."""

import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

from topics import compiled


def test_any_change_of_the_sources_names_another_folder(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("a = 1\n")
    two.write_text("b = 1\n")
    before = compiled.digest([one, two])
    assert compiled.digest([one, two]) == before
    two.write_text("b = 2\n")
    assert compiled.digest([one, two]) != before


def test_the_flag_for_bounds_names_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled.digest([])
    monkeypatch.setattr(config, "BOUNDSCHECK", 0 if config.BOUNDSCHECK else 1)
    assert compiled.digest([]) != before


def test_all_laws_and_codecs_are_among_the_sources() -> None:
    names = {f"{path.parent.name}/{path.name}" for path in compiled.sources()}
    assert {
        "integrator/rule.py",
        "predictors/rule.py",
        "topics/kernels.py",
        "engine/records.py",
    } <= names


def test_kernels_are_kept_there_and_old_folders_go(tmp_path: Path) -> None:
    for k in range(compiled.KEPT + 3):
        (tmp_path / f"soma-{k}").mkdir()
    code = "import topics; from numba.core import config; print(config.CACHE_DIR)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    place = Path(done.stdout.strip())
    assert place.parent == tmp_path and place.is_dir()
    assert len(list(tmp_path.glob("soma-*"))) == 1 + compiled.KEPT
