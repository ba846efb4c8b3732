"""Shared files: whole or not at all, and one holder of a lock at a time."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ops.stack.files import LOG_BYTES_MAX, locked, read_json, rotate, tail, write_whole


def test_a_file_is_replaced_whole_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_whole(path, "old")
    write_whole(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_file_is_no_data_and_a_broken_one_an_error(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") == {}
    for text in ("[1]", '{"half": '):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=r"bad\.json|Expecting"):
            read_json(tmp_path / "bad.json")
    (tmp_path / "good.json").write_text(json.dumps({"a": 1}))
    assert read_json(tmp_path / "good.json") == {"a": 1}


def test_a_second_holder_waits_and_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with locked(tmp_path / "lock", waiting.set):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path / "lock", lambda: order.append("never")):
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom ops.stack.files import locked\n"
        "with locked(Path(sys.argv[1]), lambda: None):\n    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
    waited: list[str] = []
    with locked(tmp_path / "lock", lambda: waited.append("waited")):
        assert waited == []


def test_a_long_log_is_put_aside_and_its_tail_is_short(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert tail(log) == "(nothing was logged)"
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    assert tail(log, 2) == "line 98\nline 99"
    rotate(log)
    assert log.exists()
    log.write_bytes(b"x" * (LOG_BYTES_MAX + 1))
    rotate(log)
    assert not log.exists()
    assert (tmp_path / "x.log.old").exists()
