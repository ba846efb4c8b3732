"""The odd records are what they are said to be, to the codec that the engine's row path uses."""

import pytest

from ops.bench.filling import updates
from ops.bench.odd import CASES, EVERY, as_control, as_people_write, as_rubbish
from topics import codec


def value() -> bytes:
    return next(value for _, value in updates(1, tenants=1, seed=1))


def test_json_is_the_same_update() -> None:
    wire = value()
    name, update = codec.decode(wire)
    assert name == "predictor_update"
    assert codec.from_json(name, as_people_write(wire).decode()) == update


def test_rubbish_is_a_dead_letter() -> None:
    with pytest.raises(codec.BadRecord):
        codec.decode(as_rubbish(value()))


def test_a_control_record_sets_the_updates_tenant() -> None:
    name, record = codec.decode(as_control(value()))
    assert name == "control_setting"
    assert record["tenant"] == codec.decode(value())[1]["tenant"]


def test_one_record_in_a_thousand_is_odd_and_its_frames_are_known() -> None:
    case = CASES["bad"]
    straight = list(CASES["straight"].records(2 * EVERY, 5, 1))
    odd = list(case.records(2 * EVERY, 5, 1))
    lengths = [len(a[1]) != len(b[1]) for a, b in zip(straight, odd, strict=True)]
    assert sum(lengths) == 2
    assert case.frames(2 * EVERY) == 2 * EVERY - 2
    assert CASES["json"].frames(2 * EVERY) == 2 * EVERY
