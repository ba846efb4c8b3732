"""What `soma publish` refuses is what the processors refuse,
and nothing else."""

from typing import Any

import pytest

from agents.engine import checks
from agents.engine.warm import sample
from agents.predictors import state
from agents.tools import admission, mapping
from topics import codec
from topics.schemas import schemas

GOOD = {"tenant": "t", "domain": "d", "ts": "2026-01-01T00:00:00Z", "vector": [1, 2]}
UPDATE = {"tenant": "t", "domain": "d", "ts": "2026-01-01T00:00:00Z", "predictor_type": "mine"}


def unfit(schema: str, data: dict[str, Any]) -> str:
    return admission.unfit(schema, codec.from_json(schema, data))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"vector": []}, "vector: 0 numbers; it has 1 to 32768"),
        ({"vector": [0] * 32_769}, "vector: 32769 numbers"),
        ({"tenant": "z z"}, "tenant: 'z z' isn't 1-128 of"),
        ({"tenant": "é"}, "tenant: 'é' isn't"),
        ({"domain": ""}, "domain: '' isn't"),
        ({"domain": "d" * 129}, "isn't 1-128 of"),
        ({"ts": "1026-01-01T00:00:00Z"}, "ts: 1026-01-01T00:00:00Z is before 2000-01-01"),
        ({"ts": "2226-01-01T00:00:00Z"}, "ts: 2226-01-01T00:00:00Z is more than an hour ahead"),
    ],
)
def test_observations(change: dict[str, Any], says: str) -> None:
    found = unfit("observation", GOOD | change)
    assert says in found if says else not found


def test_everything_wrong_is_named_at_once() -> None:
    found = unfit("observation", GOOD | {"tenant": "", "domain": "a/b", "vector": []})
    assert [one.partition(":")[0] for one in found.split("; ") if ":" in one] == [
        "tenant", "domain", "vector",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, ""),
        ({"error_metric": -1.0}, "error_metric: -1.0 isn't"),
        ({"predictor_type": "é" * 513}, "predictor_type: more than 1024 bytes"),
    ],
)
def test_updates(change: dict[str, Any], says: str) -> None:
    found = unfit("predictor_update", UPDATE | {"error_metric": 0.5} | change)
    assert says in found if says else not found


def test_the_limits_are_the_processors() -> None:
    assert admission.TEXT_MAX == checks.STRING_MAX
    assert mapping.DIM_MAX == state.DIM_MAX
    assert mapping.NAME.pattern.endswith(f"{{1,{checks.NAME_MAX}}}")


@pytest.mark.parametrize("schema", schemas().names())
def test_a_record_of_any_schema_can_be_looked_at(schema: str) -> None:
    """Not all have a tenant: letters of those that lack one are listed, too."""
    unfit = admission.unfit(schema, sample(schemas().newest(schema)))
    assert not unfit or unfit.startswith(("tenant", "domain", "ts", "vector"))
