import json
from pathlib import Path

import pytest

from agents.tools.labels import read_labels, together
from agents.tools.scores import score
from agents.tools.source import TableError
from agents.tools.tcpd import folder
from agents.tools.times import Dates

KNOWN = {"s": {"1": [3, 9], "2": [4]}, "b": {"1": []}}


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_annotations_of_the_series_or_of_the_domain(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps(KNOWN, indent=1))
    found, _ = read_labels(path, ["nobody", "s"], ["a", "b"])
    assert found == {"a": KNOWN["s"], "b": KNOWN["b"]}
    assert together(found["a"]) == [3, 4, 9]
    assert read_labels(path, [], ["a", "b"])[0] == {"b": KNOWN["b"]}
    with pytest.raises(TableError, match="no annotations of x or a; there are b, s"):
        read_labels(path, ["x"], ["a"])


def test_a_list_labels_every_domain(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\ufeff3\r\n\r\n20")  # the last one needs no line end
    found, moments = read_labels(path, ["s"], ["a", "b"])
    assert found == {key: {"labels": [3, 20]} for key in "ab"} and not moments.left


@pytest.mark.parametrize("text", ["", "\n \n", "\ufeff"])
def test_an_empty_file_says_that_nothing_ever_changed(tmp_path: Path, text: str) -> None:
    found, _ = read_labels(written(tmp_path / "a.txt", text), ["s"], ["a"])
    assert found == {"a": {"labels": []}}
    quiet, noisy = (score(found["a"], changes, 100) for changes in ([], [(50, 55)]))
    assert (quiet.f1, quiet.covering, quiet.false_boundaries) == (1.0, 1.0, 0)
    assert (noisy.precision, noisy.recall, noisy.covering) == (0.5, 1.0, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:20Z\n2026-01-01T00:00:05\n2025-12-31T23:59:59Z\n",
        "1767225620\n1767225605\n1767225599\n",
    ],
)
def test_labels_may_be_times(tmp_path: Path, text: str) -> None:
    """Each is the first point not before it; those behind the last lie behind it, and those before
    the first are left out.
    """
    found, moments = read_labels(written(tmp_path / "a.txt", text), ["s"], ["a"])
    assert (found, moments.left) == ({"a": {"labels": []}}, 3)
    for index in range(5):
        moments.see(index, (1_767_225_600 + 2 * index) * 1_000_000)
    assert (found, moments.left) == ({"a": {"labels": [3]}}, 1)
    assert moments.early == 1
    assert moments.finish(5) == 1
    assert found == {"a": {"labels": [3, 5]}}


def test_a_date_without_dashes_is_one_where_the_series_has_such(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "20240202\n20240203\n")
    found, moments = read_labels(path, [], ["a"])
    moments.begin(dates=False)
    assert found == {"a": {"labels": [20240202, 20240203]}} and not moments.left
    found, moments = read_labels(path, [], ["a"])
    moments.begin(dates=True)
    assert found == {"a": {"labels": []}} and moments.left == 2
    for index in range(3):
        moments.see(index, (1_706_745_600 + 86400 * index) * 1_000_000)  # from 2024-02-01
    assert found == {"a": {"labels": [1, 2]}}
    for text, dates in (("20240202\n3\n", True), ("20240202\n2024-02-03\n", False)):
        _, moments = read_labels(written(tmp_path / "b.txt", text), [], ["a"])
        with pytest.raises(TableError, match="'20240202': some labels are indices, others times"):
            moments.begin(dates=dates)


def test_labels_that_are_numbers_have_the_unit_that_was_told(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "1767225600\n")  # by its size seconds
    found, moments = read_labels(path, [], ["a"], "ms")
    moments.see(0, 0)
    moments.see(1, 1_767_225_600_000)
    assert found == {"a": {"labels": [1]}}


def test_one_label_that_leaves_no_choice_says_the_order_of_all(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "03/02/2024\n31/01/2024\n")
    found, moments = read_labels(path, [], ["a"])
    moments.see(0, 1_706_659_200_000_000)  # 2024-01-31
    moments.see(1, 1_706_918_400_000_000)  # 2024-02-03
    assert found == {"a": {"labels": [0, 1]}}
    for day_first in (True, False):
        path = written(tmp_path / "b.txt", "03/02/2024\n")
        assert read_labels(path, [], ["a"], dates=Dates(day_first))[1].left == 1
    with pytest.raises(TableError, match=r"line 1: .* say --day-first"):
        read_labels(path, [], ["a"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("3\n2026-01-01\n", "line 2: '2026-01-01': some labels are indices, others times"),
        ("2026-13-01\n", "line 1"),
        ("3\nx\n", "line 2: 'x' isn't an index"),
        ("3.5\n", "isn't an index"),
        ("-3\n", "isn't an index"),
        ('{"s": [1]}', "aren't {annotator"),
        ('{"s": {}}', "aren't {annotator"),
        ('{"s": {"1": [1.5]}}', "a list of indices"),
        ('{"s": {"1": [true]}}', "a list of indices"),
        ('{"s": {"1": [-1]}}', "a list of indices"),
        ('{"s": \n{"1": ', "line 2: not JSON"),
    ],
)
def test_what_is_wrong_with_labels_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(TableError, match=says):
        read_labels(written(tmp_path / "a", text), ["s"], ["s"])


def test_a_folder_gives_its_annotated_series(tmp_path: Path) -> None:
    written(tmp_path / "annotations.json", json.dumps(KNOWN))
    for name in "sb":
        one = {"name": name, "n_obs": 2, "series": [{"raw": [1, None]}]}
        written(tmp_path / f"{name}.json", json.dumps(one))
    assert [(one.name, len(one), labels) for one, labels in folder(tmp_path)] == [
        ("b", 2, KNOWN["b"]),
        ("s", 2, KNOWN["s"]),
    ]
    written(tmp_path / "s.json", '{"n_obs": 1, "series": []}')
    with pytest.raises(TableError, match=r"s\.json: the dataset's document has an empty"):
        list(folder(tmp_path))
    (tmp_path / "s.json").write_bytes(b"\xff")
    with pytest.raises(TableError, match=r"s\.json isn't UTF-8"):
        list(folder(tmp_path))
    (tmp_path / "b.json").unlink()
    with pytest.raises(TableError, match=r"b\.json can't be read: No such file"):
        list(folder(tmp_path))
    written(tmp_path / "annotations.json", "{")
    with pytest.raises(TableError, match=r"annotations\.json: line 1: not JSON"):
        list(folder(tmp_path))
