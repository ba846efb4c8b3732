"""What a result of the API's policy means: all that is neither yes nor no is no answer."""

import pytest

from agents.policy.access import SHOWN, DeniedError, access_of, verdict
from agents.settings import Settings
from stores.opa import NoAnswerError


def test_yes_and_no_are_told_apart() -> None:
    verdict({"allow": True, "rationale": "of course", "more": 1})
    for said, why in (({"rationale": "late"}, "late"), ({}, "it gives no reason")):
        with pytest.raises(DeniedError, match=f"^{why}$"):
            verdict({"allow": False} | said)
    with pytest.raises(DeniedError) as raised:
        verdict({"allow": False, "rationale": "x" * 10_000})
    assert len(str(raised.value)) == SHOWN


@pytest.mark.parametrize(
    "result", [None, True, [], "yes", {}, {"allow": 1}, {"allow": "true"}, {"allow": None},
               {"allow": True, "rationale": 7}],
)  # fmt: skip
def test_all_else_is_no_answer(result: object) -> None:
    with pytest.raises(NoAnswerError, match="soma/policy/api"):
        verdict(result)


def test_without_a_server_nobody_is_asked() -> None:
    assert access_of(Settings()) is None
