"""What a result of the API's policy means: all that is neither yes nor no is no answer."""

import asyncio

import pytest

from agents.policy.access import SHOWN, DeniedError, access_of, verdict
from agents.settings import Settings
from stores.opa import CONNECTIONS_MAX, NoAnswerError
from tests.opa import PolicyServer


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


def test_who_waits_for_others_questions_waits_no_longer_than_for_an_answer() -> None:
    """A silent server with more questions than connections: those behind them end with them."""

    async def asked(url: str) -> list[BaseException | None]:
        access = access_of(Settings(opa_url=url, opa_timeout_s=0.4))
        assert access is not None
        try:
            many = (access.ask({"path": f"/{k}"}) for k in range(3 * CONNECTIONS_MAX))
            return await asyncio.gather(*many, return_exceptions=True)
        finally:
            await access.close()

    with PolicyServer({}) as server:
        server.says = "slow"
        errors = asyncio.run(asked(server.url))
        assert {str(one) for one in errors} == {"no answer within 0.4 s"}
        assert len(server.asked) <= CONNECTIONS_MAX  # the others weren't sent any more
