"""The kernels' cache must never outlive the sources it was made of."""

import ast
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

from agents.integrator import loop
from topics import compiled, read_kernels

REPO = Path(__file__).parents[3]
LOOP = REPO / "agents" / "integrator" / "loop.py"


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


def test_a_modules_sources_are_all_that_it_imports_and_no_more() -> None:
    names = {f"{path.parent.name}/{path.name}" for path in compiled.sources(LOOP)}
    assert {"integrator/rule.py", "integrator/state.py", "topics/kernels.py"} <= names
    assert not any(name.startswith(("predictors/", "outbox/")) for name in names)
    # A new setting of the deployment would compile everything anew.
    assert not any(name.startswith("settings/") for name in names)


def _parsed(path: Path) -> set[Path]:
    """What Python's own parser says that a file imports, types or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    ours = [name.split(".") for name in names if name.split(".")[0] in compiled.PACKAGES]
    return {one for name in ours if (one := REPO.joinpath(*name).with_suffix(".py")).is_file()}


def test_imports_are_found_as_pythons_own_parser_finds_them() -> None:
    files = [one for name in compiled.PACKAGES for one in (REPO / name).rglob("*.py")]
    plain = [one for one in files if "if TYPE_CHECKING:" not in one.read_text()]
    assert len(plain) > 200
    more = {one.name for one in plain if compiled.imported(one) - _parsed(one)}
    assert more == {"templates.py"}, "it holds sources as text"
    for file in plain:
        assert compiled.imported(file) >= _parsed(file), file


def test_imports_for_types_only_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "from topics import (\n    kernels,\n    columns as c,  # why\n)\n"
        "if TYPE_CHECKING:\n    from topics import codec\n\n    from topics import partition\n"
        "import topics.compiled, agents.app\n"
        "def f():\n    from topics.programs import one, two\n"
    )
    names = {one.stem for one in compiled.imported(file)}
    assert names == {"kernels", "columns", "compiled", "app", "programs"}


def test_kernels_lie_in_the_folder_of_their_module() -> None:
    for fold, module in ((loop.fold, LOOP), (read_kernels.decode, REPO / "topics/read_kernels.py")):
        place = Path(fold._cache.cache_path)  # type: ignore[attr-defined]
        assert place == compiled.place_of(module)


def _cache_dir(tmp_path: Path, **env: str) -> Path:
    """Where a new process keeps kernels; `-1` in its place is nowhere."""
    code = (
        "import topics; from agents.outbox import kernels; from numba.core import config;"
        "print(config.CACHE_DIR)"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPO,
        env={"PATH": "", "TMPDIR": str(temporary), **env},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.mark.parametrize("name", ["SOMA_KERNELS_DIR", "NUMBA_CACHE_DIR"])
def test_kernels_are_kept_where_it_is_said_and_old_folders_go(tmp_path: Path, name: str) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for k in range(compiled.KEPT + 3):
        (given / f"outbox.kernels-{k}").mkdir()
    assert _cache_dir(tmp_path, HOME=str(tmp_path), **{name: str(given)}) == given
    assert len(list(given.glob("outbox.kernels-*"))) == 1 + compiled.KEPT


def test_without_a_home_they_lie_in_a_temporary_folder_of_this_user_alone(tmp_path: Path) -> None:
    place = _cache_dir(tmp_path, HOME="/proc/nowhere")
    assert place.parent == tmp_path / "temporary"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o775])  # of others; of the same group
def test_what_others_may_write_is_not_run(tmp_path: Path, mode: int) -> None:
    given = tmp_path / "given"
    given.mkdir()
    given.chmod(mode)
    (given / "planted").touch()
    place = _cache_dir(tmp_path, SOMA_KERNELS_DIR=str(given))
    assert place.parent == tmp_path / "temporary"
    assert not (place / "planted").exists()


def _copied_for_nobody(base: Path, given: Path) -> Path:
    """Where a process of another user, which can't write `given`, keeps its kernels."""
    nobody = 65_534
    temporary = base / "temporary"
    temporary.mkdir(exist_ok=True)
    os.chown(temporary, nobody, nobody)
    code = (
        f"import os; from topics import compiled; os.seteuid({nobody}); compiled.prepare();"
        "print(compiled.config.CACHE_DIR)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPO,
        env={"PATH": "", "TMPDIR": str(temporary), "SOMA_KERNELS_DIR": str(given)},
    )  # fmt: skip
    place = Path(done.stdout.strip())
    assert place.parent == temporary, done.stderr
    return place


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another")
def test_a_folder_that_cannot_be_written_is_copied_once(tmp_path: Path) -> None:
    """An image's kernels, made by root, in a container that runs as somebody else."""
    base = Path("/var/tmp") / f"soma-kernels-test-{os.getpid()}"
    given = base / "given"
    made = given / "outbox.kernels-1"
    made.mkdir(parents=True)
    (made / "kernel").write_text("one")
    (given / "compiled.outbox-1").touch()
    try:
        place = _copied_for_nobody(base, given)
        assert (place / made.name / "kernel").read_text() == "one"
        assert (place / "compiled.outbox-1").exists()
        (place / made.name / "kernel").write_text("ours")
        (given / "outbox.kernels-2").mkdir()
        assert _copied_for_nobody(base, given) == place
        assert (place / made.name / "kernel").read_text() == "ours"  # it wasn't copied again
        assert (place / "outbox.kernels-2").is_dir()
        assert not list(place.glob(".copy-*"))
    finally:
        shutil.rmtree(base)
