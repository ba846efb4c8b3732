"""The tools' table: schemas that clients take, and the request that each is."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from agents.mcp.calling import Answer, problem
from agents.mcp.server import result
from agents.mcp.tools import TOOLS
from agents.tools.api_access import segment, sentence


@pytest.mark.parametrize("name", TOOLS)
def test_schemas_are_objects_by_json_schema(name: str) -> None:
    tool = TOOLS[name]
    for schema in (tool.input_schema(), tool.output_schema()):
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object" and json.dumps(schema)
    assert len(tool.about) > 60


def test_a_tool_is_a_request() -> None:
    said = {"payload": {"n": 1}, "coordinate": "a"}
    assert TOOLS["remember"].call(said, "acme").body == said
    gone = TOOLS["forget"].call({"coordinate": "../a b", "dedupe_key": "k"}, "acme")
    assert (gone.method, gone.path) == ("DELETE", "/memories/%2E%2E%2Fa%20b")
    assert gone.headers == {"X-Idempotency-Key": "k"} and gone.query == {"namespace": ""}
    for tenant, path in (("acme", "/state/memory/acme"), (None, "/state/memory/default")):
        assert TOOLS["state"].call({"processor": "memory"}, tenant).path == path
    with pytest.raises(ValidationError):
        TOOLS["state"].call({"processor": "../x"}, "acme")


@given(st.text(max_size=40))
def test_a_text_is_one_part_of_a_path(text: str) -> None:
    if text.isprintable():
        assert not set(segment(text)) & set("/?#. ")


def test_a_problem_is_told_as_a_sentence_and_as_its_document() -> None:
    wrong = problem(422, "Not so.", errors=[{"at": "/a", "detail": "b"}])
    told = result(wrong)
    assert told.is_error and told.structured_content == wrong.said
    assert sentence(wrong.said) == "Not so.; /a b"
    assert not result(Answer(200, {"a": 1})).is_error
