import json
from pathlib import Path

import pytest

from topics.schemas import SchemaError, Schemas, fingerprint, is_control_id, schemas, split

OBSERVATION = {
    "type": "record",
    "name": "observation",
    "namespace": "soma",
    "fields": [{"name": "ts", "type": {"type": "long", "logicalType": "timestamp-micros"}}],
}


def write(place: Path, ids: dict[str, str], **files: object) -> Path:
    (place / "ids.json").write_text(json.dumps(ids))
    for stem, content in files.items():
        (place / f"{stem.replace('_v', '.v')}.avsc").write_text(json.dumps(content))
    return place


def test_every_id_leads_to_its_schema_and_back() -> None:
    known = schemas()
    for number, (name, version) in known.ids().items():
        assert known.schema_id(name, version) == number
        assert known.by_id(number)[:2] == (name, version)
        assert known.by_id(number)[2]["name"] == f"soma.{name}"
        assert is_control_id(number) == name.startswith("control_")


def test_the_newest_version_is_the_default(tmp_path: Path) -> None:
    newer = {**OBSERVATION, "fields": [*OBSERVATION["fields"], {"name": "n", "type": "long"}]}
    ids = {"1": "observation.v1", "12": "observation.v2"}
    known = Schemas(write(tmp_path, ids, observation_v1=OBSERVATION, observation_v2=newer))
    assert known.versions("observation") == [1, 2]
    assert known.schema_id("observation") == 12
    assert known.raw("observation") == newer
    assert set(known.writers("observation")) == {1, 12}
    assert known.names() == ["observation"]


def test_times_are_plain_integers_in_the_parsed_form_only() -> None:
    field = next(f for f in schemas().newest("observation")["fields"] if f["name"] == "ts")
    assert "logicalType" not in field["type"]
    field = next(f for f in schemas().raw("observation")["fields"] if f["name"] == "ts")
    assert field["type"]["logicalType"] == "timestamp-micros"


def test_unknown_names_and_ids_are_key_errors() -> None:
    with pytest.raises(KeyError):
        schemas().by_id(4711)
    with pytest.raises(KeyError):
        schemas().newest("nothing")
    assert schemas().versions("nothing") == []


@pytest.mark.parametrize("stem", ["observation", "observation.v", "observation.v0", ".v1", "a.vx"])
def test_file_names_say_name_and_version(stem: str) -> None:
    with pytest.raises(SchemaError, match=r"NAME\.vN"):
        split(stem)


@pytest.mark.parametrize(
    ("ids", "content", "said"),
    [
        ('{"1": "a.v1", "1": "a.v1"}', "{}", "given twice"),
        ('{"1": "a.v1", "2": "a.v1"}', json.dumps(OBSERVATION), "two ids"),
        ('{"1": "b.v1"}', "{}", "b.v1.avsc"),
        ('{"1": "a.v1"}', '{"type": "record"}', "not an Avro schema"),
        ('{"1": "a.v1"}', '{"type": "string"}', "not a record"),
        ('{"1": "a.v1"}', "[]", "not a JSON object"),
        ("nonsense", "{}", "ids.json"),
    ],
)
def test_a_broken_folder_is_named(tmp_path: Path, ids: str, content: str, said: str) -> None:
    (tmp_path / "ids.json").write_text(ids)
    (tmp_path / "a.v1.avsc").write_text(content)
    with pytest.raises(SchemaError, match=said):
        Schemas(tmp_path)


def test_fingerprints_overlook_words_for_people_and_nothing_else() -> None:
    assert fingerprint({**OBSERVATION, "doc": "other words"}) == fingerprint(OBSERVATION)
    seconds = {**OBSERVATION, "fields": [{"name": "ts", "type": "long"}]}
    assert fingerprint(seconds) != fingerprint(OBSERVATION)


def test_the_digest_names_the_set() -> None:
    assert Schemas().digest() == Schemas().digest()
    assert len(schemas().digest()) == 16
