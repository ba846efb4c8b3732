"""Several processors of one source: one of them is its keeper, and settings name whose they are."""

from dataclasses import replace
from typing import Any

import pytest

from agents.engine.control import read_control
from agents.engine.plan import Plan
from agents.engine.processor import OWN_REASONS, Batch, Output, Place, Processor
from tests.contract.harness import LOG_MS, PROCESSORS, SETTINGS, Message, Run, batch_of, plan_of
from tests.unit.agents.engine.echo import Echo, echo
from tests.unit.agents.engine.test_kinds import letters, observed, told
from tests.unit.agents.engine.test_laws import lying
from topics import codec
from topics.catalogue import CATALOGUE, dlq_of, keeper_of

pytestmark = [
    pytest.mark.kernel,
    # As plain Python (NUMBA_DISABLE_JIT=1) NumPy minds that a hash overflows.
    pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning"),
]


def refuses(self: Echo, batch: Batch, r: int, record: dict[str, Any], output: Output) -> None:
    if record["domain"] == "unheard":
        batch.status[r] = OWN_REASONS
    else:
        self.say(output, r, record["tenant"], "heard")


def odd(at: int, tenant: str, processor: str) -> bytes:
    record = {"tenant": tenant, "setting": "s", "value": "1", "author": "", "ts": at}
    return codec.encode("control_setting", record | {"processor": processor})


def part_of() -> list[Message]:
    """Good, refused, unreadable and misrouted records, and settings of three."""
    part = told([observed("a"), observed("a", domain="unheard"), *[observed("a")] * 7])
    part[2].value, part[3].value, part[4].value = b"junk", None, b"{}"
    part[5].key = b"elsewhere"
    for at, name in ((6, ""), (7, "echo"), (8, "nobody")):
        part[at].value = odd(at, "a", name)
    return part


def beside(processor: Processor) -> Plan:
    """Its plan, where another is the keeper of its source."""
    return Plan(processor, SETTINGS, 1, keeper=False)


class Strict(Echo):
    """Knows no setting."""

    def control(self, control: Any) -> str | None:
        return "I know none"


STRICT = echo(refuses, kinds={}, make=lambda context: Strict(context, refuses))


def run_of(plan: Plan) -> Run:
    run = Run(plan)
    part = part_of()
    run.transaction([batch_of(part[:4]), lying(told([observed()] * 9)[4:5]), batch_of(part[5:])])
    return run


def test_the_keeper_tells_what_nobody_can_read_and_forwards() -> None:
    run = run_of(plan_of(STRICT))
    assert [(why, detail[:13]) for _, why, detail in letters(run)] == [
        ("bad_batch", "unknown compr"),
        ("unheard", "it doesn't wa"),
        ("bad_wire_format", "neither the C"),
        ("null_value", "the value is "),
        ("control_refused", "I know none"),
        ("control_refused", "I know none"),
        ("control_refused", "no processor "),
    ]
    assert run.results["misrouted"] == len(run.of(run.plan.source)) == 1
    assert run.results["folded"] == 1 and "left" not in run.results


def test_another_processor_tells_only_what_it_refuses_itself() -> None:
    run = run_of(beside(STRICT))
    assert [(value, why) for value, why, _ in letters(run)] == [
        (part_of()[1].value, "unheard"),
        (part_of()[7].value, "control_refused"),
    ]
    assert not run.of(run.plan.source)
    assert run.results["folded"] == 1
    assert run.results["left"] == 3, "junk, null and the misrouted one"
    assert run.results["control"] == 2, "settings of others are passed over"


def test_the_keeper_of_a_source_is_the_first_writer_of_its_dead_letters() -> None:
    for processor in PROCESSORS:
        assert keeper_of(processor.source) == CATALOGUE[dlq_of(processor.source)].writers[0]
    assert keeper_of("cog.observations") == "predictors"
    assert keeper_of("cog.predictor.updates") == "integrator"
    assert keeper_of("memory.events") == "memory"
    assert keeper_of("nowhere") == ""


def test_a_setting_is_for_whom_it_names_or_for_the_keeper() -> None:
    ours = plan_of(next(p for p in PROCESSORS if p.name == "predictors"))
    other = beside(echo(refuses, kinds={}))
    place = Place("0123abcd", 0)

    def taken(plan: Plan, processor: str) -> tuple[bool, str | None]:
        control, refusal = read_control(odd(1, "a", processor), plan, place, 1, LOG_MS)
        return control is not None, refusal

    assert taken(ours, "") == (True, None) and taken(other, "") == (False, None)
    assert taken(ours, "predictors") == (True, None)
    assert taken(other, "predictors") == (False, None)
    assert taken(other, "echo") == (True, None)
    nobody = (False, "no processor 'nobody' reads cog.observations")
    assert taken(ours, "nobody") == nobody and taken(other, "nobody") == (False, None)
    tick = codec.encode("control_tick", {"ts": 5})
    assert read_control(tick, other, place, 1, LOG_MS)[0] is not None
    assert read_control(b"\0\0\0\3\x84", other, place, 1, LOG_MS) == (None, None)


def test_a_setting_of_before_is_the_keepers() -> None:
    record = {"tenant": "a", "setting": "s", "value": "1", "author": "", "ts": 1}
    old = codec.encode("control_setting", record, 1)
    for plan, ours in ((plan_of(STRICT), True), (beside(STRICT), False)):
        found = read_control(old, plan, Place("0123abcd", 0), 1, LOG_MS)
        assert (found[0] is not None, found[1]) == (ours, None)


def test_only_a_keeper_may_ask_a_policy() -> None:
    integrator = next(p for p in PROCESSORS if p.name == "integrator")
    with pytest.raises(ValueError, match="other: only the keeper of cog"):
        beside(replace(integrator, name="other"))
