"""The predictors' settings: every one has a sample, and words are numbered as kernels have them."""

from agents.predictors import diffusion, kernels, rule
from agents.predictors.settings import SETTINGS
from tests.unit.agents.predictors.samples import settings as valid


def test_every_setting_has_a_sample() -> None:
    assert {name for name, _ in valid()} == set(SETTINGS)


def test_words_are_numbered_as_the_kernels_have_them() -> None:
    for setting, words in {
        "predictor": {"heat": rule.HEAT, "persistence": rule.PERSISTENCE, "mahal": rule.MAHAL},
        "graph": {
            "none": diffusion.NONE, "path": diffusion.PATH, "ring": diffusion.RING,
            "star": diffusion.STAR,
        },
        "heat_method": {"chebyshev": kernels.CHEBYSHEV},
    }.items():  # fmt: skip
        for word, number in words.items():
            assert SETTINGS[setting].number(word) == number
