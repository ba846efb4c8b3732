import pytest

from agents.tools.output import counted, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order-17 ä 事", "order-17 ä 事"),
        ("k\x1b[31mRED\nFAKE", "k\\x1b[31mRED\\nFAKE"),
        ("a\tb\x7f\x85", "a\\tb\\x7f\\x85"),
        ("right\u202eleft\u2028", "right\\u202eleft\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_has_an_effect_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(text).isprintable()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (12_000, "12,000 rows")]
)
def test_what_is_counted_has_its_number(number: int, text: str) -> None:
    assert counted(number, "row") == text
    boundaries = "boundary" if number == 1 else "boundaries"
    assert counted(number, "boundary", "boundaries").endswith(f" {boundaries}")
