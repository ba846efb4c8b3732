"""Each processor sends and keeps what it did when golden.json was recorded, to the byte."""

import base64
import json
from typing import Any

import pytest

from agents.engine import reasons
from agents.engine.digest import digest
from agents.engine.plan import Plan
from agents.engine.registry import processors
from tests.contract.golden import FILE, Golden, differences, numerics
from tests.contract.golden_inputs import SCENARIOS
from tests.contract.harness import Run, loaded, plan_of
from topics.layout import STRING

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]  # it may compile kernels

RECORDED: dict[str, Any] = json.loads(FILE.read_text())
# Those whose code is columns and kernels: a row processor's own test says what it sends.
COLUMNAR = {name: one for name, one in processors().items() if one.in_loop}
NAMES = {"tenant", "domain"}  # which have limits of their own
AGAIN = """
If that is meant, the law of the processor goes up, and `python -m tests.contract.golden --record`
records it. `python -m tests.contract.golden --print "{name}"` prints all records, to `diff` with
what another checkout sends."""


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


each = pytest.mark.parametrize("golden", SCENARIOS, indirect=True)


def sent(golden: Golden, run: Run) -> dict[str, Any]:
    """What may not depend on cuts: all but the order of what is forwarded, and of rows."""
    plan = golden.plan
    found: dict[str, Any] = {topic: run.of(topic) for topic in golden.topics()}
    found[plan.source] = sorted(found[plan.source], key=repr)
    return found | {plan.state: run.rows()}


@each
def test_every_byte_is_as_it_was(golden: Golden, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["golden"]
    said = differences(golden, RECORDED, exact=RECORDED["numerics"] == numerics())
    if said:
        pytest.fail("\n".join([name, *said]) + AGAIN.format(name=name), pytrace=False)


@each
def test_no_byte_depends_on_cuts_or_restarts(golden: Golden) -> None:
    whole, digests = golden.run(1 << 20)
    for other, others in (golden.run(1, 1, 1, 230, 2, 17), golden.restarted()):
        assert others == digests
        assert sent(golden, other) == sent(golden, whole)
        assert other.results == whole.results and other.counted == whole.counted


def test_all_scenarios_are_recorded_and_none_besides() -> None:
    assert set(RECORDED["scenarios"]) == set(SCENARIOS)
    assert {one.processor for one in SCENARIOS.values()} == set(COLUMNAR)


def impossible(plan: Plan) -> set[str]:
    """Reasons of dead letters that these inputs can't give."""
    found = {
        reasons.NAMES[reasons.TOO_LARGE],  # a megabyte
        reasons.NAMES[reasons.LAW_FAILED],  # a defect, and a command that skips it
    }
    if not plan.public:
        found.add(reasons.NAMES[reasons.UNKNOWN_SCHEMA])  # the engine stops there
    if {field.name for field in plan.layout.fields if field.type.kind == STRING} <= NAMES:
        found.add(reasons.NAMES[reasons.LONG_STRING])
    return found


def test_every_setting_output_and_kind_of_letter_has_a_scenario() -> None:
    for name, processor in COLUMNAR.items():
        mine = [(RECORDED["scenarios"][k], s) for k, s in SCENARIOS.items() if s.processor == name]
        told = {key for _, s in mine for key in s.settings}
        told |= {key.partition("@")[0] for _, s in mine for _, key, _ in s.changes}
        assert told >= set(processor.settings), set(processor.settings) - told
        for topic in {topic for found, _ in mine for topic in found["topics"]}:
            assert any(found["topics"][topic]["records"] for found, _ in mine), topic
        kinds = {*processor.reasons, *reasons.NAMES.values()} - impossible(plan_of(processor))
        assert kinds == {reason for found, _ in mine for reason in found["dead"]}, name


@pytest.mark.parametrize("name", sorted(COLUMNAR))
def test_rows_that_were_written_then_are_read_now(name: str) -> None:
    recorded = RECORDED["rows"][name]
    rows = {key.encode(): base64.b64decode(row) for key, row in recorded["rows"].items()}
    plan = plan_of(COLUMNAR[name])
    assert len(rows) > 2 and digest(plan, loaded(plan, rows).fold) == recorded["digest"]
