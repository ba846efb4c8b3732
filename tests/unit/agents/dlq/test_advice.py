"""Every reason of a dead letter has a word on how to mend it."""

import ast
from pathlib import Path

from agents.dlq.advice import ADVICE, FOREIGN, OTHER, advice
from agents.dlq.content import fields_in
from agents.engine.reasons import NAMES
from agents.engine.registry import processors
from agents.kit.declare import REFUSED

ROOT = Path(__file__).parents[4]
# Where BadRecord's reasons become those of letters: the gateway, and what it reads by.
GATEWAY = ("agents/gateway/events.py", "topics/jsonform.py", "topics/walk.py")
LETTERS = "agents/gateway/deliveries.py"


def raised(path: str) -> set[str]:
    """The reasons that a module gives to BadRecord."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BadRecord":
            first = node.args[0]
            found |= {first.value} if isinstance(first, ast.Constant) else set()
    return {one for one in found if isinstance(one, str)}


def of_the_gateway() -> set[str]:
    """What the gateway itself calls the refusals of the service."""
    text = ast.parse((ROOT / LETTERS).read_text())
    found = [n for n in ast.walk(text) if isinstance(n, ast.Assign)]
    named = [n.value for n in found if getattr(n.targets[0], "id", "") == "reason"]
    (choice,) = named
    return {n.value for n in ast.walk(choice) if isinstance(n, ast.Constant)
            and isinstance(n.value, str)}  # fmt: skip


def test_all_reasons_are_in_the_table() -> None:
    own = {(one.name, reason) for one in processors().values() for reason in one.reasons}
    from_gateway = set().union(*(raised(path) for path in GATEWAY)) | of_the_gateway()
    assert {"bad_payload", "null_value", "bad_json", "bad_avro"} <= from_gateway
    assert {"refused", "conflict"} <= of_the_gateway()
    every = {("predictors", name) for name in NAMES.values()} | own
    every |= {("gateway", name) for name in from_gateway} | {("counting", REFUSED)}
    assert {pair for pair in every if advice(pair[1], pair[0]) == OTHER} == set()


def test_no_advice_is_for_a_reason_that_there_isnt() -> None:
    own = {reason for one in processors().values() for reason in one.reasons}
    from_gateway = set().union(*(raised(path) for path in GATEWAY)) | of_the_gateway()
    known = {*NAMES.values(), *own, *from_gateway, REFUSED}
    assert {name for name in ADVICE if name.rpartition(":")[2] not in known} == set()


def test_two_reasons_of_one_name_have_a_word_each() -> None:
    assert advice("refused", "gateway") != advice("refused", "counting")
    assert advice("a_plugins_own", "counting") == OTHER and advice("", "") == FOREIGN


def test_the_fields_that_were_wrong_are_named() -> None:
    assert fields_in("vector: missing; ts: no time; no_such: x", "observation") == ["vector", "ts"]
    assert fields_in("observation: bad | ts: null", "observation") == ["ts"]
    assert fields_in("error_metric: NaN or infinite", "predictor_update") == ["error_metric"]
    assert fields_in("bad_avro: domain: not UTF-8", "observation") == ["domain"]
    assert fields_in("ts: no time", "") == [] == fields_in("", "observation")
