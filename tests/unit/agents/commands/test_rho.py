"""`soma rho check`, and what the others refuse before they ask a store."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.rho.envelope import pack


def test_files_of_each_kind_are_checked(tmp_path: Path) -> None:
    matrix = np.diag([0.25, 0.75])
    np.save(tmp_path / "a.npy", matrix)
    (tmp_path / "b.rho").write_bytes(pack(matrix))
    (tmp_path / "c.json").write_text("[[1, 0], [0, 0]]")
    np.save(tmp_path / "d.npy", 2 * matrix)
    good = [str(tmp_path / name) for name in ("a.npy", "b.rho", "c.json")]
    told = CliRunner().invoke(main, ["rho", "check", *good])
    assert told.exit_code == 0 and told.output.count("taken") == 3, told.output
    told = CliRunner().invoke(main, ["rho", "check", *good, str(tmp_path / "d.npy"), "--json"])
    found = json.loads(told.stdout)["files"]
    assert told.exit_code == 1 and [one["result"] for one in found[2:]] == [
        "OK", "INVARIANT_VIOLATION",
    ]  # fmt: skip
    assert found[3]["which"] == "psd"  # an entry of 1.5


@pytest.mark.parametrize(
    ("content", "name"), [(b"junk", "a.npy"), (b"SRHO", "a.rho"), (b"{", "a.json"), (b"", "b.npy")]
)
def test_what_is_no_matrix_is_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    told = CliRunner().invoke(main, ["rho", "check", str(tmp_path / name)])
    assert told.exit_code == 1 and told.output.startswith("Error: "), told.output
    assert len(told.output.splitlines()) == 1


@pytest.mark.parametrize(
    "given", ["k", "k=f", "k=@3", "a b=f@3", "k=f@-1", "k=f@x", "k=none@0", "k=f@1:", "k=f@1:12"]
)
def test_a_commit_names_key_file_and_version(given: str) -> None:
    told = CliRunner().invoke(main, ["rho", "commit", given])
    assert told.exit_code == 1 and told.output.startswith("Error: "), told.output
