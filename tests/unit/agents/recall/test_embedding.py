"""Hashed n-grams: unit length, like for like, nothing between texts that share nothing."""

import math
import string

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.recall.embedding import CHARACTERS_MAX, HashedNgrams, text_of

NGRAMS = HashedNgrams(384)


@given(st.text(max_size=60))
def test_it_is_a_unit_vector_and_always_the_same(text: str) -> None:
    found = NGRAMS.embed(text)
    length = float(found @ found)
    assert found.shape == (384,) and (math.isclose(length, 1.0) or length == 0.0)
    assert np.array_equal(found, HashedNgrams(384).embed(text))


def test_texts_that_share_nothing_are_near_0() -> None:
    random = np.random.default_rng(3)
    letters = np.array(list(string.ascii_lowercase))
    texts = ["".join(random.choice(letters, 60)) for _ in range(60)]
    vectors = np.array([NGRAMS.embed(one) for one in texts])
    products = (vectors @ vectors.T)[np.triu_indices(60, 1)]
    assert abs(products.mean()) < 0.01 and products.std() < 1.6 / math.sqrt(384)


def test_like_texts_are_alike_and_the_best_is_the_nearest() -> None:
    memories = [
        "The deploy failed because the database migration timed out",
        "Alice prefers short answers with examples",
        "The cat sleeps on the warm keyboard",
    ]
    vectors = np.array([NGRAMS.embed(one) for one in memories])
    for asked, wanted in (("database migrations time out", 0), ("what does alice prefer?", 1)):
        assert int(np.argmax(vectors @ NGRAMS.embed(asked))) == wanted


def test_case_space_and_form_say_nothing() -> None:
    one = NGRAMS.embed("Straße  nach Köln!")
    assert np.array_equal(one, NGRAMS.embed("STRASSE NACH KO\u0308LN"))


def test_long_texts_are_cut_and_empty_ones_are_zero() -> None:
    longer, long = ("ab " * k for k in (CHARACTERS_MAX, CHARACTERS_MAX // 3 + 9))
    assert np.array_equal(NGRAMS.embed(longer), NGRAMS.embed(long))
    assert not NGRAMS.embed(" .,; ").any()


def test_a_payloads_texts_are_what_it_says() -> None:
    assert text_of('{"text": "hello", "n": 3, "in": {"more": ["there", 1, null]}}') == "hello there"
    assert text_of('{"n": 3}') == '{"n": 3}'
    assert text_of("no json") == "no json"
    assert text_of('{"a":' * 100 + '"deep"' + "}" * 100).startswith('{"a"')
