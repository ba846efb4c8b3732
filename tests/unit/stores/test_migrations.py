from pathlib import Path

import pytest

from stores import migrations
from stores.migrations import Migration, MigrationError, Step
from stores.names import quoted, schema_of


def test_the_files_are_numbered_without_gaps() -> None:
    found = migrations.load()
    assert [m.number for m in found] == list(range(1, len(found) + 1))
    assert found[0].name == "projections"
    assert all(m.sql.strip() for m in found)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["0001_a.sql", "0003_c.sql"], "0003_c"),
        (["0001_a.sql", "0001_b.sql"], "0001_b"),
        (["0002_b.sql"], "0002_b"),
        (["1_a.sql"], "1_a.sql"),
        (["0001_A.sql"], "0001_A.sql"),
        ([], "broken"),
    ],
)
def test_a_wrong_folder_is_named(tmp_path: Path, names: list[str], named: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=named):
        migrations.load(tmp_path)


def test_line_ends_are_no_edit() -> None:
    unix, windows = "a\nb\n", "a\r\nb\r\n"
    assert Migration(1, "x", unix).checksum == Migration(1, "x", windows).checksum
    assert Migration(1, "x", unix).checksum != Migration(1, "x", "a\nc\n").checksum


def test_each_schema_has_a_lock_of_its_own() -> None:
    keys = {migrations.lock_key(f"soma_{k}") for k in range(1000)}
    assert len(keys) == 1000
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_names() -> None:
    assert (schema_of(""), schema_of("a-b")) == ("soma", "soma_a-b")
    assert quoted('a"b') == '"a""b"'


def test_edited_and_unknown_are_refused_by_name() -> None:
    migrations.refuse("soma", [Step(1, "a", "applied"), Step(2, "b", "pending")])
    with pytest.raises(MigrationError, match=r"0001_a\.sql.*new migration"):
        migrations.refuse("soma", [Step(1, "a", "edited")])
    with pytest.raises(MigrationError, match=r"0009 z.*newer version"):
        migrations.refuse("soma", [Step(1, "a", "applied"), Step(9, "z", "unknown")])
