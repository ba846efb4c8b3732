"""The client of an OPA server, against real HTTP: answers, nonsense, silence, limits."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from agents.engine.processor import Decision, Question
from agents.policy import ENTRY
from agents.policy.policies import Embedded, Remote, question
from ops.stack.ports import free_port
from stores.opa import ANSWER_BYTES_MAX, NoAnswerError, Opa
from tests.live.helpers import eventually
from tests.opa import PolicyServer, opa_server

TEXT = """package soma.policy.integrator

default allow := false

allow if input.candidate.weights[input.candidate.leader] >= 0.3

leader := "state" if {
	input.tenant == "o"
	input.candidate.weights.state
}

rationale := sprintf("%s of %s", [input.candidate.leader, input.tenant])
"""
MODULES = {"p.rego": TEXT}
ASKED = Question("id", "t", "agent", {"state": 0.5, "agent": 0.5})
NONSENSE: list[tuple[int, bytes, str]] = [
    (200, b"", "not JSON"),
    (200, b"\xff\xfe", "not JSON"),
    (200, b"[" * 60_000, "not JSON"),
    (200, b"[1]", "no JSON object"),
    (200, b"{}", "undefined, not an object"),
    (200, b'{"result": true}', "a boolean, not an object"),
    (200, b'{"result": {"allow": "true"}}', "allow is a string"),
    (200, b'{"result": {"allow": true, "leader": "a b"}}', "leader 'a b'"),
    (200, b'{"result": {"rationale": "x"}}', "allow is undefined"),
    (200, b" " * (ANSWER_BYTES_MAX + 1), "larger than 64 KiB"),
    (302, b"", "status 302"),
    (404, b"{}", "status 404"),
    (500, b'{"result": {"allow": true}}', "status 500"),
]


def asked(
    url: str, timeout_s: float = 5.0, questions: list[Question] | None = None
) -> list[Decision]:
    async def all_of_them() -> list[Decision]:
        remote = Remote(Opa(url, timeout_s))
        try:
            return list(await asyncio.gather(*(remote.ask(one) for one in questions or [ASKED])))
        finally:
            await remote.close()

    return asyncio.run(all_of_them())


def test_the_answer_is_that_of_the_embedded_policy() -> None:
    rng = np.random.default_rng(3)
    names = ["state", "agent", "action"]
    many = []
    for k in range(100):
        shares = map(float, rng.dirichlet(np.ones(3)))
        weights = dict(zip(names, shares, strict=True))
        many.append(Question(str(k), str(rng.choice(["t", "o"])), str(rng.choice(names)), weights))
    policy = Embedded(MODULES)
    with PolicyServer(MODULES) as server:
        told = asked(server.url, questions=many)
    assert told == [policy.decide(one.tenant, one.leader, one.weights) for one in many]
    assert {one.outcome for one in told} == {"allow", "deny", "override"}


@pytest.mark.parametrize(("status", "body", "what"), NONSENSE)
def test_nonsense_is_an_error_that_says_what(status: int, body: bytes, what: str) -> None:
    with PolicyServer(MODULES) as server:
        server.says = status, body
        (told,) = asked(server.url)
    assert told.outcome == "error" and what in told.rationale


@pytest.mark.parametrize("how", ["slow", "drip"])
def test_an_answer_that_takes_ten_seconds_is_none(how: str) -> None:
    with PolicyServer(MODULES) as server:
        server.says = how
        began = time.monotonic()
        (told,) = asked(server.url, timeout_s=0.3)
        assert time.monotonic() - began < 3.0
    assert told == Decision("error", "", "policy: no answer within 0.3 s")


def test_an_answer_that_breaks_off_is_none() -> None:
    with PolicyServer(MODULES) as server:
        server.says = "cut"
        (told,) = asked(server.url)
    assert told.outcome == "error" and "no answer: RemoteProtocolError" in told.rationale


def test_a_server_that_is_not_there_is_an_error_until_it_comes_back() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (told,) = asked(url)
    assert told == Decision("error", "", "policy: no answer: ConnectError")
    with PolicyServer(MODULES, port):
        (told,) = asked(url)
    assert told == Decision("allow", "", "agent of t")


def test_many_questions_wait_their_turn_and_the_limit_holds_for_each_alone() -> None:
    with PolicyServer(MODULES) as server:
        told = asked(server.url, 30.0, [ASKED] * 200)
        assert len(server.asked) == 200
    assert {one.outcome for one in told} == {"allow"}


def test_a_token_is_sent_and_a_weight_has_six_decimals() -> None:
    async def once(url: str) -> None:
        client = Opa(url + "/", 5.0, "geheim")
        await client.ask(ENTRY, question("t", "agent", {"agent": 1 / 3}))
        await client.close()

    with PolicyServer(MODULES) as server:
        asyncio.run(once(server.url))
        assert server.authorised == ["Bearer geheim"]
        assert server.asked[0]["candidate"]["weights"] == {"agent": 0.333333}


def test_a_client_says_what_went_wrong() -> None:
    async def once() -> None:
        client = Opa("http://127.0.0.1:1", 5.0)
        with pytest.raises(NoAnswerError, match="ConnectError"):
            await client.ask(ENTRY, {})
        await client.close()

    asyncio.run(once())


def test_a_real_opa_and_the_embedded_rego_agree_on_1000_inputs(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text(TEXT)
    policy = Embedded(MODULES)
    rng = np.random.default_rng(11)
    names = ["state", "agent", "action", "1e5", "true", "a.b", "-", "_"]
    many = []
    for k in range(1000):
        n = int(rng.integers(1, len(names) + 1))
        chosen = [str(name) for name in rng.permutation(names)[:n]]
        shares = rng.dirichlet(np.full(n, 0.3))
        weights = {name: float(share) for name, share in zip(chosen, shares, strict=True)}
        if k % 4 == 0:
            weights[chosen[0]] = float(rng.choice([0.3, 0.1 + 0.2, 0.2999999, 0.299999, 1e-7, 1.0]))
        leader = chosen[0] if k % 7 else "absent"
        many.append(Question(str(k), str(rng.choice(["t", "o", "1", "null"])), leader, weights))
    with opa_server(tmp_path, free_port()) as url:
        eventually(lambda: asked(url)[0].outcome == "allow", what="OPA answers")
        told = asked(url, questions=many)
    assert told == [policy.decide(one.tenant, one.leader, one.weights) for one in many]
    assert {one.outcome for one in told} == {"allow", "deny", "override"}
