"""The tools: what each is for, what it takes and gives, and the request that it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, Field

from agents.api.body_models import BodyModel
from agents.api.callers import tenant_of
from agents.api.explain_routes import ID_MAX, ExplainedOut
from agents.api.memories import NAMESPACE_MAX, MemoryIn, Plain, Remembered
from agents.api.recall_models import SearchIn, SearchOut
from agents.api.state_routes import StateOut
from agents.tools.api_access import segment

COORDINATE_MAX = 2048  # characters, of a path

Given = Mapping[str, Any]


class ForgetIn(BodyModel):
    """Which memory is to go."""

    coordinate: str = Field(
        min_length=1, max_length=COORDINATE_MAX, description="Where it lies: as it was remembered."
    )
    namespace: str = Field(
        "", max_length=NAMESPACE_MAX, pattern=Plain, description="that the memory is in"
    )
    dedupe_key: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")] | None = Field(
        None, description="Makes a repetition safe."
    )


class StateIn(BodyModel):
    """Whose knowledge is asked for."""

    processor: str = Field(
        pattern=r"^[a-z][a-z0-9_]{0,63}$",
        description="A processor: predictors, integrator, segmentation, memory, sleep …",
    )


class ExplainIn(BodyModel):
    """What is to be explained."""

    id: str = Field(
        min_length=1, max_length=ID_MAX,
        description="The id of a frame, segment or observation, or a place, TOPIC/PARTITION/OFFSET",
    )  # fmt: skip
    processor: str = Field(
        "", pattern=r"^([a-z][a-z0-9_]{0,63})?$", description="Whose fold of it, where several read"
    )


@dataclass(frozen=True, slots=True)
class Call:
    """A request of the HTTP API."""

    method: str
    path: str
    body: Given | None = None
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool. `call` makes the request of arguments and a tenant, if one is known."""

    name: str
    title: str
    about: str
    takes: type[BaseModel]
    gives: type[BaseModel]
    call: Callable[[Given, str | None], Call]
    writes: bool = False
    destroys: bool = False

    def input_schema(self) -> dict[str, Any]:
        """Of its arguments."""
        return self.takes.model_json_schema(by_alias=True)

    def output_schema(self) -> dict[str, Any]:
        """Of its structured result."""
        return self.gives.model_json_schema(by_alias=True, mode="serialization")


def _remember(given: Given, tenant: str | None) -> Call:
    return Call("POST", "/memories", given)  # the route checks it, by the same model


def _recall(given: Given, tenant: str | None) -> Call:
    return Call("POST", "/memories/search", given)


def _forget(given: Given, tenant: str | None) -> Call:
    what = ForgetIn.model_validate(given)
    key = {} if what.dedupe_key is None else {"X-Idempotency-Key": what.dedupe_key}
    path = f"/memories/{segment(what.coordinate)}"
    return Call("DELETE", path, query={"namespace": what.namespace}, headers=key)


def _explain(given: Given, tenant: str | None) -> Call:
    what = ExplainIn.model_validate(given)
    return Call("GET", f"/explain/{segment(what.id)}", query={"processor": what.processor})


def _state(given: Given, tenant: str | None) -> Call:
    what = StateIn.model_validate(given)
    return Call("GET", f"/state/{what.processor}/{segment(tenant_of(tenant))}")


TOOLS = {
    one.name: one
    for one in (
        Tool(
            "remember", "Remember something",
            "Keep something for later: a JSON object (`payload`; give it a field `text`, by which "
            "it is found) at a `coordinate` of your choice, or at one of its own. The same "
            "coordinate again is a new version of the same memory. It is on the disk when this "
            "returns, and found a moment later; to find it at once, give recall `wait` with "
            "the `id` that this returns. A `dedupe_key` makes a repetition safe.",
            MemoryIn, Remembered, _remember, writes=True,
        ),
        Tool(
            "recall", "Find memories",
            "Find what is like a text (or a vector), best first: by likeness, importance and age. "
            "Filters (namespace, time, fields of the payload) hold before the best `top_k` are "
            "chosen. Only memories of your own tenant are found.",
            SearchIn, SearchOut, _recall,
        ),
        Tool(
            "forget", "Forget a memory",
            "Let the memory at a coordinate go. Accepted whether there is one or not.",
            ForgetIn, Remembered, _forget, writes=True, destroys=True,
        ),
        Tool(
            "explain", "Explain a record",
            "Say what one frame, segment, observation or dead letter did to the tenant's state "
            "and why, in the law's own words and numbers, with the state before and after, whence "
            "it came and what it caused. It takes seconds.",
            ExplainIn, ExplainedOut, _explain,
        ),
        Tool(
            "state", "Show a state",
            "Show what a stream processor knows of the tenant now: committed, with the offset "
            "that it is of and where its input ended.",
            StateIn, StateOut, _state,
        ),
    )
}  # fmt: skip
