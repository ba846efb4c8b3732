"""The embedded Rego and a real OPA side by side: of one policy and one question, one decision.

A denial's rationale and an override's leader are compared, too; of errors only that both are. What
the embedded one refuses to compile (`[d | some d, _ in x]`, `with`) isn't among the rules.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator, Mapping

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.processor import Decision, Question
from agents.policy import rego
from agents.policy.policies import Embedded, Remote
from ops.stack.ports import free_port
from stores.opa import Opa
from tests.live.helpers import REPO, eventually
from tests.opa import opa_server

HEAD = "package soma.policy.integrator\n"
SHIPPED = rego.sources(REPO / "ops" / "policies")
DOMAINS = ("state", "agent", "action", "a.b", "9", "true", "x-y_z", "null")
names = st.sampled_from(DOMAINS)
tenants = st.sampled_from(("t", "acme", "u.1", "*", "null"))
numbers = st.floats(0.0, 1.0) | st.sampled_from((0.0, 1.0, 0.5, 1e-6, 5e-7, 0.1 + 0.2))
questions = st.tuples(tenants, st.dictionaries(names, numbers, min_size=1)).flatmap(
    lambda one: st.tuples(st.just(one[0]), st.sampled_from(sorted(one[1])), st.just(one[1]))
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real OPA without any policy."""
    port = free_port()

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        return False

    with opa_server(tmp_path_factory.mktemp("opa"), port) as found:
        eventually(answers, 60.0, "OPA listens")
        yield found


def serve(url: str, modules: Mapping[str, str]) -> None:
    """Let OPA have these modules and no others."""
    with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        for old in client.get("/v1/policies").json()["result"]:
            client.delete(f"/v1/policies/{old['id']}").raise_for_status()
        for name in sorted(modules, key=lambda one: one == "integrator.rego"):
            client.put(f"/v1/policies/{name}", content=modules[name]).raise_for_status()


def of_opa(url: str, asked: list[tuple[str, str, dict[str, float]]]) -> list[Decision]:
    """What the engine makes of OPA's answers, on the way that a worker has them."""

    async def ask() -> list[Decision]:
        remote = Remote(Opa(url, 30.0))
        try:
            return [await remote.ask(Question("id", *one)) for one in asked]
        finally:
            await remote.close()

    return asyncio.run(ask())


def must_agree(
    url: str, modules: Mapping[str, str], asked: list[tuple[str, str, dict[str, float]]]
) -> None:
    serve(url, modules)
    ours, theirs = Embedded(modules), of_opa(url, asked)
    for one, there in zip(asked, theirs, strict=True):
        here = ours.decide(*one)
        if "error" in (here.outcome, there.outcome):
            assert here.outcome == there.outcome, (modules, one, here, there)
        else:
            assert here == there, (modules, one)


def literal(sets: Mapping[str, set[str]]) -> str:
    """As Rego has it: an empty set is no object."""
    shown = {key: json.dumps(sorted(one)) for key, one in sets.items()}
    each = (
        f"{json.dumps(k)}: {'{' + v[1:-1] + '}' if v != '[]' else 'set()'}"
        for k, v in shown.items()
    )
    return "{" + ", ".join(each) + "}"


lists = st.builds(
    lambda never, least, instead: (
        f"package soma.policy.lists\nnever := {literal({'*': set()} | never)}\n"
        f"least := {json.dumps(least)}\ninstead := {json.dumps(instead)}\n"
    ),
    st.dictionaries(tenants, st.sets(names, max_size=3), max_size=3),
    st.dictionaries(tenants, numbers.map(lambda one: round(one, 6)), max_size=3),
    st.dictionaries(tenants, st.dictionaries(names, names, max_size=3), max_size=3),
)


@settings(max_examples=60, deadline=None)
@given(given_lists=lists, asked=st.lists(questions, min_size=1, max_size=6))
def test_of_the_shipped_policy_by_any_lists(
    url: str, given_lists: str, asked: list[tuple[str, str, dict[str, float]]]
) -> None:
    must_agree(url, SHIPPED | {"lists.rego": given_lists}, asked)


CONDITIONS = (
    'input.tenant == "t"',
    'startswith(input.tenant, "u")',
    "input.candidate.leader in {`state`, `agent`}",
    "count(input.candidate.weights) > 2",
    "input.candidate.weights[input.candidate.leader] >= 0.5",
    "input.candidate.weights.state < 0.3",
    "sum([w | some w in input.candidate.weights]) > 1",
    "max([w | some w in input.candidate.weights]) == input.candidate.weights.state",
    "every w in input.candidate.weights { w <= 0.75 }",
    "some d, w in input.candidate.weights; w > 0.9; d != input.candidate.leader",
    "not input.candidate.weights.agent",
    'regex.match("^[a-z.]+$", input.candidate.leader)',
    "input.nothing.there",
    "input.tenant > input.candidate.leader",
)
TAILS = (
    "",
    "default allow := false\n",
    "default allow := true\n",
    "rationale := input.candidate.leader\n",
    'rationale := sprintf("%s/%s", [input.tenant, input.candidate.leader])\n',
    'leader := "agent"\n',
    "leader := min(object.keys(input.candidate.weights))\n",
    "leader := 7\n",
    'rationale := concat(",", sort(object.keys(input.candidate.weights)))\n',
)
rules = st.builds(
    lambda values, tails: HEAD + "".join(dict.fromkeys(tails)) + "".join(values),
    st.lists(
        st.builds(
            lambda value, body: f"allow := {value} if {{ {'; '.join(body)} }}\n",
            st.sampled_from(("true", "false")),
            st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=3, unique=True),
        ),
        max_size=2,
    ),
    st.lists(st.sampled_from(TAILS), max_size=3),
).filter(lambda text: all(text.count(f"\n{one} :=") <= 1 for one in ("leader", "rationale")))


@settings(max_examples=120, deadline=None)
@given(text=rules.filter(lambda text: text.count("default allow") <= 1),
       asked=st.lists(questions, min_size=1, max_size=5))  # fmt: skip
def test_of_rules_put_together_at_random(
    url: str, text: str, asked: list[tuple[str, str, dict[str, float]]]
) -> None:
    must_agree(url, {"p.rego": text}, asked)
