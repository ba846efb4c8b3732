"""A command that is broken off: whether it is done then, and what it says."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.kernel
NOISE = np.random.default_rng(1).normal(size=400)
STEP = "".join(f"{x}\n" for x in NOISE + 4.0 * (np.arange(400) >= 200)).encode()
BACK = "".join(f"{x}\n" for x in NOISE).encode()  # behind STEP: a second change
ENDINGS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
ANSWER_S = 60  # of a process that starts on a busy machine


@contextmanager
def started(*words: str | Path, stdin: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "agents.cli", *map(str, words)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def grown(path: Path) -> Iterator[int]:
    """What reads this file has STEP of it, and waits for more while the block runs."""
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)  # for reading too: opening doesn't wait for the other end
    try:
        os.write(writer, STEP)
        yield writer
    finally:
        os.close(writer)


def first_line(process: "subprocess.Popen[bytes]") -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line
    return line


@pytest.mark.parametrize(("number", "status"), ENDINGS)
def test_a_file_that_is_interrupted_is_not_told_as_if_it_were_whole(
    number: signal.Signals, status: int, tmp_path: Path
) -> None:
    words = ("--summary", "--plot", tmp_path / "part.png")
    with (
        grown(tmp_path / "series.csv"),
        started("segment", tmp_path / "series.csv", *words) as one,
    ):
        first_line(one)
        one.send_signal(number)
        more, said = one.communicate(timeout=ANSWER_S)
    assert (one.returncode, more) == (status, b"")
    interrupted, aborted = said.decode().splitlines()
    assert interrupted.startswith("interrupted at line ") and aborted == "Aborted!"
    assert 200 < int(interrupted.removeprefix("interrupted at line ")) <= 400
    assert not (tmp_path / "part.png").exists()


def test_standard_input_has_no_other_end_and_its_figures_say_of_what_they_are() -> None:
    with started("segment", "-", "--summary", stdin=subprocess.PIPE) as one:
        assert one.stdin is not None
        one.stdin.write(STEP)
        one.stdin.flush()
        first_line(one)
        one.send_signal(signal.SIGTERM)
        more, said = one.communicate(timeout=ANSWER_S)
    assert one.returncode == 0, said
    assert b'"summary"' in more and b"points of" in said
    assert b"interrupted at line " in said and b"of what came until then" in said


@pytest.mark.parametrize("plot", [False, True])
def test_an_output_that_nobody_reads_any_more_ends_it(plot: bool, tmp_path: Path) -> None:
    words = ("--plot", tmp_path / "part.png") if plot else ()
    with (
        grown(tmp_path / "series.csv") as writer,
        started("segment", tmp_path / "series.csv", *words) as one,
    ):
        first_line(one)
        assert one.stdout is not None and one.stderr is not None
        one.stdout.close()
        os.write(writer, BACK)
        said, status = one.stderr.read().decode(), one.wait(ANSWER_S)
    assert status == plot, said
    assert "nobody reads the output since line " in said if plot else said == ""
    assert not (tmp_path / "part.png").exists()


@pytest.mark.parametrize(("words", "status"), [((), 0), (("--count", "1000"), 143)])
def test_what_was_to_come_to_a_count_has_not_when_interrupted(
    words: tuple[str, ...], status: int
) -> None:
    with started("observe", "--json", "--interval", "0.1", *words) as one:
        first_line(one)
        one.send_signal(signal.SIGTERM)
        _, said = one.communicate(timeout=ANSWER_S)
    assert (one.returncode, said) == (status, b"Aborted!\n" if status else b"")
