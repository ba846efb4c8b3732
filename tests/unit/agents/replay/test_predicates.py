"""Whatever a stranger's expression is: it is taken or refused in words, at a bounded cost."""

import json
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from agents.replay.command import Command
from agents.replay.modes import refusal_of
from agents.replay.predicates import STEPS_MAX, Predicate, PredicateError
from agents.replay.words import LINE_MAX, line_of

NOW = 1_760_000_000_000_000
RECORD: dict[str, Any] = {
    "tenant": "a", "domain": "agent", "values": [1.0, -2.5, float("inf")], "sequence": 3,
    "tags": {"k": "v", "n": None}, "text": "\ud800",
}  # fmt: skip
LITERALS = st.sampled_from([
    "`1`", "`0`", "`1e400`", "`-3`", "`[1,2]`", "`[]`", '`"x"`', "'x'", "''", "`null`", "`true`",
    '`{"a":[1,[2]]}`', "`9999999999999999999999`", '`"\\\\ud800"`',
])  # fmt: skip
NAMES = st.sampled_from(["a", "tenant", "values", "sequence", "tags", "text", '"k"', "@", "*"])
FUNCTIONS = st.sampled_from([
    "abs", "avg", "ceil", "floor", "sum", "max", "min", "length", "sort", "reverse", "to_string",
    "to_number", "to_array", "keys", "values", "type", "merge", "not_null", "nosuch",
])  # fmt: skip
OF_TWO = st.sampled_from(["contains", "join", "starts_with", "sum", "merge", "not_null"])
BY = st.sampled_from(["map(&{0}, {1})", "sort_by({1}, &{0})", "max_by({1}, &{0})"])
OPERATORS = st.sampled_from(["<", "<=", "==", "!=", ">", ">=", "&&", "||", "|", "."])
BEHIND = st.sampled_from(
    ["[0]", "[-1]", "[::0]", "[::-1]", "[1:9:2]", "[]", "[*]", ".*", "[?@]", "[?@ > `1`]", "|[@,@]"]
)


def _built(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} {} {}".format, inner, OPERATORS, inner),
        st.builds("{}({})".format, FUNCTIONS, inner),
        st.builds("{}({}, {})".format, OF_TWO, inner, inner),
        st.builds(lambda form, a, b: form.format(a, b), BY, inner, inner),
        st.builds("{}{}".format, inner, BEHIND),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{a: {}, b: {}}}".format, inner, inner),
        st.builds("!{}".format, inner),
        st.builds("({})".format, inner),
    )


EXPRESSIONS = st.one_of(
    st.recursive(st.one_of(LITERALS, NAMES), _built, max_leaves=12), st.text(max_size=60)
)


def asked(text: str, record: Any) -> bool | str:
    """What an expression says of a record; or what is wrong, in words that can be written."""
    try:
        return Predicate(text).holds(record, len(json.dumps(record)))
    except PredicateError as error:
        said = str(error)
        assert said and "\n" not in said and len(said.encode()) <= 12 * LINE_MAX
        return said


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS)
def test_whatever_it_is_it_is_taken_or_refused_in_words(text: str) -> None:
    why = refusal_of(Command("republish", "cog.observations", "mine", predicate=text), NOW)
    assert why is None or (why.startswith("predicate: ") and why.encode())
    if why is None and text:
        for record in (RECORD, {}, {"values": "x", "sequence": None, "a": [1, "b"]}):
            asked(text, record)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS)
def test_it_says_what_jmespath_says(text: str) -> None:
    try:
        wanted = jmespath.search(text, RECORD) is True
    except (JMESPathError, TypeError, ValueError, ArithmeticError, AttributeError, LookupError):
        assert isinstance(asked(text, RECORD), str)
        return
    assert asked(text, RECORD) is wanted


ONES = "`[" + ",".join("1" * 30) + "]`"


@pytest.mark.parametrize(
    "text",
    [
        "[@]" + "|[@,@][]" * 25,  # 2^25 values
        "[@]" + "|[@,@]" * 30 + "|to_string(@)",  # nested, and each twice in the next
        f"map(&map(&map(&map(&@, {ONES}), {ONES}), {ONES}), {ONES})",
        f"{ONES}[*].[{ONES}[*].[{ONES}[*].[{ONES}]]]",
        "'xxxxxxxxxxxxxxxxxxxx'" + "|join(@,[@,@,@,@,@,@])" * 9,
        "{a: @}" + "|{a: @, b: @}" * 18,
    ],
)
def test_what_costs_too_much_ends(text: str) -> None:
    assert "steps" in str(asked(text, {}))


def test_a_long_record_may_be_gone_through_and_honest_expressions_are_taken() -> None:
    long = {"values": [float(k) for k in range(20_000)]}
    assert asked("length(values[?@ > `19998`]) == `1`", long) is True
    assert len(long["values"]) > STEPS_MAX
    many = " || ".join(f"tenant == 't{k}'" for k in range(40))
    assert asked(many, {"tenant": "t39"}) is True
    assert Predicate(many).wrong() is None and asked(many, {}) is False


def test_bounds_of_its_text() -> None:
    assert asked("a" * 1_001, {}) == "1001 characters, at most 1000"
    assert asked("!" * 200 + "a", {}) == "201 words, at most 200"
    assert asked("!" * 199 + "a", {}) is True  # deep, and yet within what Python nests


def test_a_line_can_be_written_and_is_short() -> None:
    assert line_of(ValueError("a\n  b \ud800")) == "a b \\ud800"
    assert line_of(KeyError()) == "KeyError" and len(line_of(ValueError("x" * 999))) == LINE_MAX
