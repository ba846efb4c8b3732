"""A processor's programs and names, compiled from its declaration and the catalogue."""

from dataclasses import replace

import pytest

from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import Processor
from agents.settings import Settings
from agents.settings.reading import declared, tree_of
from tests.contract.harness import PROCESSORS, plan_of
from topics.catalogue import CATALOGUE
from topics.schemas import is_control_id, schemas

each = pytest.mark.parametrize("processor", PROCESSORS, ids=lambda p: p.name)
NAMED = Settings(kafka_bootstrap="127.0.0.1:1", namespace="ours", topics_partitions=7)


@each
def test_every_name_has_the_namespace(processor: Processor) -> None:
    plan = Plan(processor, NAMED, 7)
    sinks = [s.topic for s in plan.sinks if s.topic != plan.source]  # which may be one, too
    names = [plan.source, plan.state, plan.dlq, plan.epochs, *sinks]
    assert all(name.startswith("ours.") for name in [*names, plan.transactional_id])
    assert len(set(names)) == len(names)
    assert plan.source == f"ours.{processor.source}" and plan.dlq == f"{plan.source}.dlq"
    assert plan.state == f"ours.soma.{processor.name}.state"
    assert plan.partitions == 7


@each
def test_all_of_its_topics_stand_in_the_catalogue_with_it_as_writer(processor: Processor) -> None:
    names = [*processor.sinks, processor.state_topic, f"{processor.source}.dlq", "soma.epochs"]
    for name in names:
        assert processor.name in CATALOGUE[name].writers, name
    assert processor.name in CATALOGUE[processor.source].readers
    assert CATALOGUE[processor.state_topic].schema == processor.state_schema


@each
def test_all_strings_are_checked_tenant_and_domain_among_them(processor: Processor) -> None:
    for kind in plan_of(processor).kinds:
        fields = schemas().newest(kind.schema)["fields"]
        strings = [f for f in fields if f["type"] in ("string", ["null", "string"])]
        assert len(kind.strings) == len(strings) == len(kind.limits)
        assert {kind.tenant, kind.domain} - {-1} <= set(kind.strings.tolist())


@each
def test_control_schemas_are_reserved_and_never_the_sources(processor: Processor) -> None:
    plan = plan_of(processor)
    assert plan.reserved.tolist() == sorted(n for n in schemas().ids() if is_control_id(n))
    assert plan.reserved.size >= 2
    assert not set(plan.reserved.tolist()) & set(schemas().writers(plan.schema))


@each
def test_the_deployments_values_are_text_in_a_fixed_order(processor: Processor) -> None:
    values = defaults_of(processor, NAMED)
    lasts = processor.name == "memory"  # no row of it is forgotten for being silent
    assert list(values) == sorted(values) and ("forget_after_s" in values) is not lasts
    assert set(values) >= set(processor.settings), "a later version's defaults may differ"
    assert all(isinstance(value, str) for value in values.values())
    assert values == defaults_of(processor, Settings(kafka_bootstrap="127.0.0.1:2"))


def test_other_values_are_another_epoch() -> None:
    integrator = next(p for p in PROCESSORS if p.name == "integrator")
    mine = tree_of(declared())(
        kafka_bootstrap="127.0.0.1:1", forget_after_s=60,
        integrator={"alpha": "3.5", "fusion": "hedge"}, predictors={"forget_after_s": "90"},
    )  # fmt: skip
    before, after = defaults_of(integrator, NAMED), defaults_of(integrator, mine)
    assert {k for k in before if before[k] != after[k]} == {"alpha", "fusion", "forget_after_s"}
    assert (after["alpha"], after["fusion"], after["forget_after_s"]) == ("3.5", "hedge", "60")
    predictors = next(p for p in PROCESSORS if p.name == "predictors")
    assert defaults_of(predictors, mine)["forget_after_s"] == "90.0", "its own before everybody's"


def test_topics_without_a_schema_are_refused_by_name() -> None:
    one = PROCESSORS[0]
    dlq = f"{one.source}.dlq"
    with pytest.raises(ValueError, match=r"sink .*\.dlq has no schema"):
        Plan(replace(one, sinks=(dlq,)), NAMED, 1)
    with pytest.raises(ValueError, match="has no schema to fold"):
        Plan(replace(one, source=dlq), NAMED, 1)


@each
def test_rows_and_outputs_start_empty_and_are_not_shared(processor: Processor) -> None:
    plan = plan_of(processor)
    one, two = plan.state_rows(), plan.state_rows()
    assert one.n == 0 and one.columns is not two.columns
    assert not {id(one.key_pos), id(one.key_len)} & {id(two.key_pos), id(two.key_len)}
    assert one.key_pos is not one.key_len
    for sink in plan.sinks:
        output = plan.output(sink)
        output.reserve(10, 20, 30)
        assert output.n == 0 and output.cause.shape[0] >= 10
