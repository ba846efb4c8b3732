import io

from hypothesis import given
from hypothesis import strategies as st

from agents.tools.lines import lines


@given(st.lists(st.text("ab é{}", max_size=12)), st.booleans())
def test_lines_are_those_of_the_text(parts: list[str], ends: bool) -> None:
    text = "\n".join(parts) + ("\n" if ends else "")
    wanted = [
        (k, line.strip().encode()) for k, line in enumerate(text.split("\n"), 1) if line.strip()
    ]
    assert list(lines(io.BytesIO(text.encode()))) == wanted


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(1, 20))
def test_a_longer_line_is_passed_over_in_pieces(sizes: list[int], limit: int) -> None:
    stream = io.BytesIO(b"".join(b"x" * size + b"\n" for size in sizes))
    found = list(lines(stream, limit))
    assert [number for number, _ in found] == list(range(1, len(sizes) + 1))
    for size, (_, line) in zip(sizes, found, strict=True):
        assert line == (b"x" * size if size <= limit else None)


def test_a_last_line_beyond_the_limit_without_an_end() -> None:
    assert list(lines(io.BytesIO(b"ok\n" + b"x" * 99), 10)) == [(1, b"ok"), (2, None)]
