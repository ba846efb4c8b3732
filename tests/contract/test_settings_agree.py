"""A deployment's default and a tenant's value of the same setting have the same limits."""

import importlib
import math
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from agents.engine.registry import rooms
from agents.settings import Settings

TRIED = [0.0, 1e-9, 1e-6, 0.5, 0.999, 0.9991, 1.0, 1.5, 10.0, 10.5, 49.0, 50.0, 1000.0, 1001.0]
TRIED += [1e5, 1e5 + 1, 1e6, 2e6, 1e9, 2e9, 366 * 86_400_000.0, 1e11, 1e13, 1e300, -1.0]


def numbers() -> Iterator[tuple[str, str]]:
    for room in rooms():
        tree = Settings.model_fields[room].default
        for name, value in tree:
            if isinstance(value, int | float):
                yield room, name


@pytest.mark.parametrize(("room", "name"), list(numbers()))
def test_what_one_declaration_takes_the_other_takes(room: str, name: str) -> None:
    parse = importlib.import_module(f"agents.{room}.settings").parse
    tree = type(Settings.model_fields[room].default)
    for value in TRIED:
        text = repr(int(value)) if value == math.floor(value) and value < 1e15 else repr(value)
        try:
            parse(name, text)
            of_tenant = True
        except ValueError:
            of_tenant = False
        try:
            tree.model_validate({name: text})
            of_deployment = True
        except ValidationError:
            of_deployment = False
        assert of_deployment == of_tenant, f"{room} {name}={text}"


def test_each_room_has_numbers_to_compare() -> None:
    assert {room for room, _ in numbers()} == set(rooms())
