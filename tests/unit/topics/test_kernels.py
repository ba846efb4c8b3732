"""What the compiled codec is made of, each piece against Python's own; and the flags of the tests.

`make test` runs these tests with NUMBA_BOUNDSCHECK=1 too. They show that no kernel reads outside
its arrays only where the flag is in force (cached kernels ignore it), so a canary must raise.
Negative indices wrap even then: that kernels form none is theirs to see to.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from topics.kernels import ascii_only, utf8, varint, word32, word64
from topics.layout import BAD_AVRO
from topics.write_kernels import put_bytes, put_varint, put_word, varint_size

pytestmark = pytest.mark.kernel
I64 = st.integers(-(2**63), 2**63 - 1)
ROOT = Path(__file__).parents[3]


def array(content: bytes) -> Any:
    return np.frombuffer(bytearray(content), np.uint8)


def zigzag(value: int) -> bytes:
    """The specification's varint, in Python."""
    raw, out = (value << 1) ^ (value >> 63), bytearray()
    while raw > 127:
        out.append(raw & 127 | 128)
        raw >>= 7
    return bytes([*out, raw])


@given(I64, st.binary(max_size=3), st.binary(max_size=3))
@example(-(2**63), b"", b"")
@example(2**63 - 1, b"", b"\x80")
def test_varints(value: int, before: bytes, after: bytes) -> None:
    body, at = zigzag(value), len(before)
    buf = array(before + body + after)
    assert varint(buf, at, buf.shape[0]) == (value, at + len(body))
    for end in range(at, at + len(body)):
        assert varint(buf, at, end)[1] == -BAD_AVRO
    assert varint_size(np.int64(value)) == len(body)
    out = np.full(at + len(body) + 1, 99, np.uint8)
    assert put_varint(out, at, np.int64(value)) == at + len(body)
    assert out.tobytes() == b"\x63" * at + body + b"\x63"


@given(st.binary(max_size=24) | st.text().map(str.encode), st.data())
def test_utf8_is_what_python_takes_for_it(content: bytes, data: st.DataObject) -> None:
    cut = content[: data.draw(st.integers(0, len(content)))]
    for text in (content, cut):
        buf = array(b"\xff" + text + b"\xbf")
        try:
            text.decode()
        except UnicodeDecodeError:
            assert not utf8(buf, 1, 1 + len(text))
        else:
            assert utf8(buf, 1, 1 + len(text))


def test_utf8_at_every_edge_of_its_table() -> None:
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2]
    leads = [*edges, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF]
    for lead in leads:
        for second in edges:
            for rest in (b"", b"\x80", b"\x80\x80", b"\xbf\xbf", b"\x80\x7f", b"\x80\xc0", b"a"):
                text = bytes([lead, second]) + rest
                expected = text.decode(errors="replace").encode() == text
                assert utf8(array(text), 0, len(text)) == expected, text.hex()


@pytest.mark.parametrize("size", range(27))
def test_ascii_is_told_at_every_length_and_place(size: int) -> None:
    for after in (0, 1, 7, 8, 20):  # what follows doesn't matter, nor whether anything does
        buf = np.full(3 + size + after, 255, np.uint8)
        buf[3 : 3 + size] = 127
        assert ascii_only(buf, 3, size)
        for at in range(3, 3 + size):
            buf[at] = 128
            assert not ascii_only(buf, 3, size)
            buf[at] = 0


def test_words_are_little_endian() -> None:
    buf = array(bytes(range(200, 216)))
    assert int(word32(buf, 3)) == int.from_bytes(bytes(range(203, 207)), "little")
    assert int(word64(buf, 3)) == int.from_bytes(bytes(range(203, 211)), "little")
    out = np.zeros(10, np.uint8)
    assert put_word(out, 1, np.uint64(2**64 - 2), 8) == 9
    assert out.tobytes() == b"\x00\xfe" + b"\xff" * 7 + b"\x00"
    assert put_bytes(out, 0, buf, 2, 3) == 4
    assert out[:5].tobytes() == bytes([6, 202, 203, 204, 255])


CANARY = """
import numpy as np
from numba import njit
from topics.compiled import entry, kernel

@njit
def plain(a, i):
    return a[i]

@kernel
def read(a, i):
    return a[np.uint64(i)]

@entry
def own(a, i):
    return read(a, i)

for canary in (plain, own):
    try:
        print(canary(np.arange(4), 4))
    except IndexError:
        print("IndexError")
print(plain(np.arange(4), -1))
"""


def python(code: list[str], **environment: str) -> str:
    """Run Python in the project's root with another environment; what it prints."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(
        [sys.executable, *code], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_reading_out_of_bounds_raises_under_the_flag(tmp_path: Path) -> None:
    (tmp_path / "canary.py").write_text(CANARY)
    out = python(
        [str(tmp_path / "canary.py")], NUMBA_BOUNDSCHECK="1", NUMBA_CACHE_DIR=str(tmp_path)
    )
    assert out.split() == ["IndexError", "IndexError", "3"]  # and -1 wraps, even so


@pytest.mark.skipif(os.environ.get("NUMBA_BOUNDSCHECK") != "1", reason="runs with bounds checks")
def test_the_flag_is_in_force_in_these_tests() -> None:
    with pytest.raises(IndexError):
        word32(np.zeros(3, np.uint8), 0)


@pytest.mark.plain
@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="is run by this very test")
def test_the_same_functions_run_as_plain_python() -> None:
    chosen = "varints or utf8 or ascii or words or fastavro or lie or mixed_writers or edges"
    files = [
        f"tests/unit/topics/test_{n}.py" for n in ("kernels", "columns_decode", "columns_encode")
    ]
    out = python(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *files],
        NUMBA_DISABLE_JIT="1",
        NUMBA_BOUNDSCHECK="0",
    )
    assert " passed" in out
    assert "failed" not in out
