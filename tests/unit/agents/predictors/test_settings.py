"""Settings: what is refused, and who overrides whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.predictors import diffusion, kernels, rule, settings
from agents.predictors.settings import NAMES, Book, checked, parse, row_of
from agents.settings import PredictorDefaults
from tests.unit.agents.predictors.samples import settings as valid


def test_every_setting_has_a_sample_and_a_default() -> None:
    assert {name for name, _ in valid()} == set(NAMES)
    assert row_of({}).shape == (len(NAMES),)


def test_words_are_numbered_as_the_kernels_have_them() -> None:
    assert [parse("predictor", w) for w in ("heat", "persistence", "mahal")] == [
        rule.HEAT, rule.PERSISTENCE, rule.MAHAL,
    ]  # fmt: skip
    assert [parse("graph", w) for w in ("none", "path", "ring", "star")] == [
        diffusion.NONE, diffusion.PATH, diffusion.RING, diffusion.STAR,
    ]  # fmt: skip
    assert parse("heat_method", "chebyshev") == kernels.CHEBYSHEV


def test_the_deployments_defaults_are_ours() -> None:
    theirs = {name: str(value) for name, value in PredictorDefaults().model_dump().items()}
    np.testing.assert_array_equal(row_of(theirs), row_of({}))


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("predictor", "oracle"), ("predictor", "1"), ("alpha", "-1"), ("alpha", "nan"),
        ("alpha", "inf"), ("alpha", "two"), ("diffusion_time", "11"), ("forgetting", "1"),
        ("forget_after_s", "0"), ("graph", "PATH"), ("colour", "red"), ("", ""),
    ],
)  # fmt: skip
def test_refused(setting: str, text: str) -> None:
    with pytest.raises(ValueError, match=setting or "no setting"):
        parse(setting, text)


@given(st.sampled_from(NAMES), st.text(max_size=20))
def test_any_text_is_a_number_or_refused(setting: str, text: str) -> None:
    try:
        value = parse(setting, text)
    except ValueError:
        return
    assert checked(setting, value) == value


def test_a_state_row_cannot_smuggle_values_in() -> None:
    for setting, value in (("graph", 1.5), ("graph", 7.0), ("alpha", np.nan), ("colour", 1.0)):
        with pytest.raises(ValueError, match=setting):
            checked(setting, value)


def test_own_values_before_everyones_before_the_deployments() -> None:
    book = Book({"alpha": "3"})
    book.change("a", "forgetting", 0.5)
    book.change("*", "alpha", 4.0)
    book.change("*", "forgetting", 0.25)
    assert book.slot("a") > 0
    assert book.slot("b") == 0
    assert book.table[book.slot("a")][settings.FORGETTING] == 0.5
    assert book.table[book.slot("a")][settings.ALPHA] == 4.0
    assert book.table[0][settings.FORGETTING] == 0.25
    book.change("*", "alpha", None)
    assert book.table[book.slot("a")][settings.ALPHA] == 3.0
    book.change("a", "forgetting", None)
    assert book.slot("a") == 0
    assert book.tenants() == ["*"]


def test_rows_are_used_again() -> None:
    book = Book({})
    for k in range(1000):
        book.change(f"t{k}", "alpha", 1.0)
        book.change(f"t{k}", "alpha", None)
    assert book.table.shape[0] == 2
    for k in range(100):
        book.change(f"t{k}", "alpha", float(k))
    assert [book.table[book.slot(f"t{k}")][settings.ALPHA] for k in range(100)] == list(range(100))
