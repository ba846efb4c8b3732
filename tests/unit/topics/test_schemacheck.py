import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topics.schemacheck import FINGERPRINTS, check, record
from topics.schemas import folder


@pytest.fixture
def avro(tmp_path: Path) -> Path:
    """A copy of the project's own schemas, all recorded as they are."""
    copy = Path(shutil.copytree(folder(), tmp_path / "avro"))
    record(copy, tuple(path.stem for path in copy.glob("*.avsc")))
    return copy


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def add_version(avro: Path, change: Callable[[Any], None]) -> None:
    """observation.v2 with id 890: the first version, changed."""
    shutil.copy(avro / "observation.v1.avsc", avro / "observation.v2.avsc")
    edit(avro / "observation.v2.avsc", change)
    edit(avro / "ids.json", lambda ids: ids.update({"890": "observation.v2"}))
    record(avro)


def test_the_project_s_own_schemas_are_well() -> None:
    report = check()
    assert report.problems == []
    assert report.schemas[1] == "observation.v1"


def test_a_compatible_version_is_well(avro: Path) -> None:
    new = {"name": "unit", "type": "string", "default": ""}
    add_version(avro, lambda schema: schema["fields"].append(new))
    assert check(avro).problems == []


def test_an_incompatible_version_is_refused_against_all_earlier_ones(avro: Path) -> None:
    add_version(avro, lambda schema: schema["fields"].pop())
    shutil.copy(avro / "observation.v1.avsc", avro / "observation.v3.avsc")
    edit(
        avro / "observation.v3.avsc",
        lambda schema: schema["fields"][-1].update(type="long", default=0),
    )
    edit(avro / "ids.json", lambda ids: ids.update({"891": "observation.v3"}))
    record(avro)
    assert check(avro).problems == [
        "observation: v3 can't read v1: sequence: null became long"
    ]  # v2 has no sequence: that alone would be well


def test_a_changed_file_is_caught_without_git(avro: Path) -> None:
    edit(avro / "observation.v1.avsc", lambda schema: schema["fields"].pop())
    assert record(avro) == []
    assert check(avro).problems == [
        "observation.v1.avsc: changed since it was recorded; leave it and add a version"
    ]
    assert record(avro, ("observation.v1",)) == ["observation.v1"]
    assert check(avro).problems == []


def test_words_for_people_may_change(avro: Path) -> None:
    edit(avro / "observation.v1.avsc", lambda schema: schema.update(doc="better words"))
    assert check(avro).problems == []


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"890": "observation.v1"}, "ids.json: observation.v1 has two ids"),
        ({"50": "nothing.v1"}, "ids.json: no file nothing.v1.avsc"),
        ({"0": "nothing.v1"}, "ids.json: '0' is no id"),
        ({"007": "nothing.v1"}, "ids.json: '007' is no id"),
        ({"4294967296": "nothing.v1"}, "ids.json: '4294967296' is no id"),
        ({"900": "observation.v1"}, "ids from 900 to 999 are for control_*: observation.v1"),
        ({"50": "control_tick.v1"}, "ids from 900 to 999 are for control_*: control_tick.v1"),
    ],
)
def test_ids_cover_exactly_the_files(avro: Path, ids: dict[str, str], said: str) -> None:
    edit(avro / "ids.json", lambda table: table.update(ids))
    assert [one for one in check(avro).problems if said in one]


def test_everything_wrong_is_named_at_once(avro: Path) -> None:
    edit(avro / "ids.json", lambda ids: ids.pop("1"))
    (avro / "epoch.v1.avsc").write_text("{")
    (avro / "position.v1.avsc").unlink()
    (avro / "thing.v2.avsc").write_text((avro / "control_tick.v1.avsc").read_text())
    problems = "\n".join(check(avro).problems)
    for said in (
        "observation.v1.avsc: not in ids.json",
        "epoch.v1.avsc: Expecting property name",
        "ids.json: no file position.v1.avsc",
        "position.v1.avsc: recorded, but it is gone",
        "thing: v1 is missing",
        "thing.v2.avsc: isn't named thing",
        "thing.v2.avsc: not recorded yet",
    ):
        assert said in problems


@pytest.mark.parametrize("name", ["ids.json", FINGERPRINTS])
def test_a_broken_table_is_a_problem_not_a_crash(avro: Path, name: str) -> None:
    (avro / name).write_text("[1]")
    assert f"{name}: not a JSON object" in check(avro).problems
