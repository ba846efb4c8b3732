"""Rooms are found by their folders, and loaded only when chosen."""

import subprocess
import sys

import pytest

from agents.engine.registry import PROJECTIONS, processors, rooms


def test_the_rooms_there_are() -> None:
    assert {"integrator", "predictors"} <= set(rooms())
    assert "engine" not in rooms() and "commands" not in rooms() and PROJECTIONS not in rooms()
    assert sorted(processors()) == rooms()


def test_only_the_chosen_are_given() -> None:
    assert list(processors(["predictors"])) == ["predictors"]
    assert list(processors(["predictors", "integrator"])) == ["integrator", "predictors"]
    assert list(processors(["predictors", PROJECTIONS, "predictors"])) == ["predictors"]
    assert processors([PROJECTIONS]) == {}


def test_only_the_chosen_are_loaded() -> None:
    code = (
        "import sys; from agents.engine.registry import processors; processors(['predictors']);"
        "print('agents.predictors.agent' in sys.modules, 'agents.integrator.fold' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]


def test_every_unknown_room_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no such room: kitchen, loft; there are") as error:
        processors(["loft", "integrator", "kitchen"])
    assert all(name in str(error.value) for name in [*rooms(), PROJECTIONS])
