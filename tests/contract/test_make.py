"""`make prove` runs the proofs that it names, with options that they have."""

import re
import subprocess
from dataclasses import fields
from importlib import import_module
from pathlib import Path

from ops.prove import answers

ROOT = Path(__file__).parents[2]
PROOF = re.compile(r"-m (ops\.prove\.\w+)(.*)")


def test_make_prove_runs_every_proof_with_options_that_it_has() -> None:
    said = subprocess.run(
        ["make", "-n", "prove", "KILLS=3", "SEED=5"], cwd=ROOT, capture_output=True, text=True,
        timeout=60, check=True,
    ).stdout  # fmt: skip
    found = dict(PROOF.findall(said))
    names = ("driver", "answers", "rows", "replay", "rebuild", "copies")
    assert list(found) == [f"ops.prove.{name}" for name in names]
    assert answers.parse(found.pop("ops.prove.answers").split()).seed == 5
    for name, words in found.items():
        given = dict(re.findall(r"--(\w+) (\d+)", words))
        assert (given["kills"], given["seed"]) == ("3", "5")
        known = {one.name for one in fields(import_module(name).Options)}
        assert given.keys() <= known, name
