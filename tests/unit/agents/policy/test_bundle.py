"""Policies as they travel in band: one form, one digest, and what can't be one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.processor import Decision
from agents.policy.bundle import BYTES_MAX, LONE, Bundle, Bundles, digest, read

REGO = 'package soma.policy.integrator\nallow := input.tenant == "t"\n'
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
names = st.text("abc/._-é ", min_size=1, max_size=20).filter(str.isprintable)
bundles = st.builds(
    Bundle,
    st.dictionaries(names, texts.filter(lambda text: bool(text.strip())), min_size=1, max_size=4),
    st.booleans(),
)


@given(bundles)
def test_the_text_is_one_form_and_reads_back(one: Bundle) -> None:
    assert read(one.text) == one and read(one.text).text == one.text
    turned = Bundle(dict(reversed(one.modules.items())), one.fail_open)
    assert turned.digest == one.digest == digest(one.text) and len(one.digest) == 16
    assert Bundle(one.modules, not one.fail_open).digest != one.digest
    shuffled = json.dumps({"fail_open": one.fail_open, "modules": one.modules}, indent=2)
    assert read(shuffled).text == one.text


def test_plain_rego_is_a_policy_of_one_module() -> None:
    assert read(REGO) == Bundle({LONE: REGO}, False)
    assert digest("") == ""


@pytest.mark.parametrize(
    "text",
    [
        "{", "{}", '{"modules": []}', '{"modules": {"": "x"}}', '{"modules": {"a": 1}}',
        '{"modules": {"a": " "}}', '{"modules": {"a": "x\\u0000"}}', "x\0", " ",
        '{"modules": {"a": "\\ud800"}}', '{"modules": {"a\\n": "x"}}', "x" * (BYTES_MAX + 1),
        '{"modules": {"a": "x"}, "fail_open": 1}', '{"modules": {"a": "x"}, "more": 1}',
        json.dumps({"modules": {f"m{k}": "x" for k in range(101)}}), '{"a":' * 10_000,
    ],
)  # fmt: skip
def test_what_cannot_be_one_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"policy|module|text") as caught:
        read(text)
    assert len(str(caught.value)) < 200


def test_they_are_compiled_once_while_anybody_has_them() -> None:
    kept, text = Bundles(), read(REGO).text
    assert not kept and not kept.under_way()
    one = kept.of(text)
    assert kept.of(text) is one and kept and one.digest == digest(text) and not one.fail_open
    assert one.decide("t", "a", {"a": 1.0}) == Decision("allow")
    assert one.decide("u", "a", {"a": 1.0}) == Decision("deny")
    del one
    assert not kept
    with pytest.raises(ValueError, match=r"policy.rego:2"):
        kept.of(read("package a\nallow := {").text)
