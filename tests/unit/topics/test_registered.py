"""What a registry says, compared with what we have; and what is kept of it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topics.registered import Cache, Kept, RegisteredSchemas, clashes, differs, text_of
from topics.registry import PASSWORD, SECRETS_DIR, URL, USER, Access, chosen
from topics.schemas import SchemaError, Schemas, fingerprint

FILE = Schemas()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda some: st.lists(some) | st.dictionaries(st.text(), some),
)


def access(home: Path, url: str = "http://127.0.0.1:9") -> Access:
    return Access(url, home=home)


def full(home: Path) -> RegisteredSchemas:
    """Schemas whose ids were kept a moment ago: 2001, 2002 and so on."""
    known = RegisteredSchemas(access(home))
    cache = Cache.read(known.access)
    for number, key in enumerate(known.all(), 2001):
        cache.ids[f"{key[0]}.v{key[1]}"] = Kept(number, fingerprint(known.raw(*key)))
    cache.checked = 1e12
    cache.write(known.access.url)
    return known


@given(JSON)
def test_a_schema_is_sent_as_the_same_json_and_without_an_empty_object_as_text(raw: object) -> None:
    text = text_of({"a": raw})
    assert json.loads(text) == {"a": raw}
    assert '"{}"' not in text


def test_words_and_white_space_make_no_other_schema() -> None:
    raw = FILE.raw("observation")
    assert differs(json.dumps(raw, indent=4), raw) == ""
    assert differs(json.dumps({**raw, "doc": "else"}), raw) == ""
    assert differs(json.dumps({**raw, "name": "else"}), raw).format(7) == (
        "the id 7 is another schema's there"
    )
    assert "isn't there" in differs(None, raw) and "no JSON" in differs("{", raw)


def test_an_id_is_one_schemas() -> None:
    assert clashes({("a", 1): 1, ("b", 1): 2}) == []
    assert clashes({("a", 1): 1, ("a", 2): 1}) == ["a.v1 and a.v2: both have the id 1"]


def test_kept_ids_are_used_and_a_changed_schemas_id_is_not(tmp_path: Path) -> None:
    known = full(tmp_path)
    assert known.by_id(2001)[:2] == known.all()[0]
    assert known.schema_id("position") == known.numbers()["position", 2]
    assert set(known.writers("position")) == {known.numbers()["position", n] for n in (1, 2)}
    path = next(tmp_path.glob("registry/*.json"))
    said = json.loads(path.read_text())
    said["ids"]["position.v2"][1] = "other"
    path.write_text(json.dumps(said))
    with pytest.raises(OSError, match=r"can't be reached.*aren't all kept"):
        RegisteredSchemas(access(tmp_path)).schema_id("position")


def test_a_spoilt_file_is_none_and_one_that_cant_be_written_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = full(tmp_path)
    path = next(tmp_path.glob("registry/*.json"))
    for text in ("", "[]", '{"ids": 5}', '{"ids": {"a": []}, "others": {}, "checked": 0}'):
        path.write_text(text)
        assert Cache.read(known.access).ids == {}
    (tmp_path / "file").write_text("")
    Cache.read(access(tmp_path / "file")).write("")
    assert "can't be kept" in capsys.readouterr().err


def test_ids_of_files_mean_nothing_with_a_registry(tmp_path: Path) -> None:
    known = full(tmp_path / "home")
    package = tmp_path / "package"
    package.mkdir()
    raw = {**FILE.raw("observation"), "name": "mine"}
    (package / "mine.v1.avsc").write_text(json.dumps(raw))
    (package / "ids.json").write_text('{"1": "mine.v1"}')  # which a file's schemas refuse
    known.add(package)
    assert known.newest("mine")["name"] == "soma.mine"
    with pytest.raises(SchemaError, match=r"there is a schema mine\.v1 already"):
        known.add(package)


def test_control_records_are_known_by_their_names(tmp_path: Path) -> None:
    known = full(tmp_path)
    controls = [n for key, n in known.numbers().items() if key[0].startswith("control_")]
    assert controls and all(map(known.is_control, controls))
    assert not known.is_control(known.schema_id("observation"))
    assert not any(map(known.is_control, (900, 905, 999)))


def test_anothers_schema_is_read_and_kept(tmp_path: Path) -> None:
    known, raw = full(tmp_path), FILE.raw("observation")
    known.numbers()
    age = known.age
    known._note({5000: json.dumps({**raw, "doc": "theirs"}), 5001: '"string"', 5002: None})
    assert known.age > age and set(known.writers("observation")) >= {5000}
    assert known.by_id(5000)[:2] == ("observation", 0)
    assert known.unsettled([5000, 5001, 5002, 5003]) == [5003]
    with pytest.raises(KeyError, match="the id 5001 is string in the registry"):
        known.by_id(5001)
    with pytest.raises(KeyError, match="no schema has the id 5002, in the registry neither"):
        known.by_id(5002)
    assert 5000 not in known.ids()  # none of ours: nothing is written with it
    again = RegisteredSchemas(access(tmp_path))
    assert again.by_id(5000)[0] == "observation"
    assert again.digest() == known.digest()


def test_where_it_is_comes_from_the_environment_or_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL, raising=False)
    assert chosen() is None
    monkeypatch.setenv(URL.lower(), "http://there")  # as settings read it
    monkeypatch.setenv(USER, "me")
    (tmp_path / PASSWORD).write_text("hidden\n")
    monkeypatch.setenv(SECRETS_DIR, str(tmp_path))
    found = chosen()
    assert found is not None
    assert (found.url, found.user, found.password) == ("http://there", "me", "hidden")
    assert "hidden" not in repr(found)
