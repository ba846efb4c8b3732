"""The verifier finds nothing where nothing is wrong, and names each thing that is."""

import dataclasses
from collections.abc import Callable

import pytest

from ops.prove.check import Findings, Stage, check_stage
from ops.prove.wire import Record, Wire
from tests.unit.ops.prove.stages import perfect

WIRE = Wire()
STAGES = {name: perfect(name, 1000) for name in ("predictors", "integrator", "segmentation")}
FLOATS = {"predictors": "error_metric", "integrator": "confidence", "segmentation": "score"}


def spoiled(stage: Stage, part: str, change: Callable[[list[Record]], None]) -> Findings:
    """The findings after a change to one list of records; the stage itself stays."""
    copy = dataclasses.replace(stage)
    if part == "sink":  # the first one
        topic = stage.law.sinks[0].topic
        records = list(stage.outputs[topic])
        copy.outputs = {**stage.outputs, topic: records}
    else:
        records = list(getattr(stage, part))
        setattr(copy, part, records)
    change(records)
    return check_stage(copy, WIRE)


def sink(stage: Stage) -> list[Record]:
    """The outputs that a change to "sink" spoils."""
    return list(stage.outputs[stage.law.sinks[0].topic])


def counts(findings: Findings) -> tuple[int, int, int, int]:
    """lost, doubled, out of order, wrong."""
    return (
        len(findings.lost), len(findings.doubled), len(findings.out_of_order), len(findings.wrong)
    )  # fmt: skip


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> Stage:
    return STAGES[request.param]


def test_a_perfect_stage_is_clean_and_holds_every_kind_of_record(stage: Stage) -> None:
    findings = check_stage(stage, WIRE)
    assert findings.clean, findings.as_json()
    names = [f"{stage.law.processor}_{kind}" for kind in ("forwarded", "dead", "controls")]
    assert all(findings.counts[name] > 0 for name in names)
    written = {sink.schema for sink in stage.law.sinks} - {"sleep_request"}  # nobody sleeps here
    assert all(findings.counts[name] > 0 for name in written)


def test_a_dropped_output_is_lost(stage: Stage) -> None:
    assert counts(spoiled(stage, "sink", lambda r: r.pop(300) and None)) == (1, 0, 0, 0)


def test_a_doubled_output_is_doubled(stage: Stage) -> None:
    end = max(r.offset for r in sink(stage)) + 1
    last = max((r for r in sink(stage) if r.partition == 0), key=lambda r: r.offset)
    found = spoiled(stage, "sink", lambda r: r.append(last._replace(offset=end)))
    assert counts(found) == (0, 1, 0, 0)


def test_two_swapped_outputs_are_out_of_order(stage: Stage) -> None:
    def swap(records: list[Record]) -> None:
        at = [index for index, record in enumerate(records) if record.partition == 1]
        one, two = at[20], at[21]
        a, b = records[one], records[two]
        records[one] = b._replace(offset=a.offset)
        records[two] = a._replace(offset=b.offset)

    assert counts(spoiled(stage, "sink", swap)) == (0, 0, 1, 0)


def test_a_changed_number_is_wrong(stage: Stage) -> None:
    def nudge(records: list[Record]) -> None:
        name, row = WIRE.decode(records[300].value, stage.law.sinks[0].schema)
        row[FLOATS[stage.law.processor]] += 1e-3
        records[300] = records[300]._replace(value=WIRE.encode(name, row))

    found = spoiled(stage, "sink", nudge)
    assert counts(found) == (0, 0, 0, 1)
    assert FLOATS[stage.law.processor] in found.wrong[0]


def test_a_changed_weight_is_wrong() -> None:
    def nudge(records: list[Record]) -> None:
        name, row = WIRE.decode(records[200].value, "global_frame")
        first = next(iter(row["weights"]))
        row["weights"][first] += 1e-4
        records[200] = records[200]._replace(value=WIRE.encode(name, row))

    found = spoiled(STAGES["integrator"], "sink", nudge)
    assert counts(found) == (0, 0, 0, 1) and "weights" in found.wrong[0]


def test_an_output_of_another_partition_is_wrong(stage: Stage) -> None:
    def move(records: list[Record]) -> None:
        end = max(r.offset for r in records if r.partition == 1) + 1
        at = max(i for i, r in enumerate(records) if r.partition == 0)
        records[at] = records[at]._replace(partition=1, offset=end)

    lost, doubled, order, wrong = counts(spoiled(stage, "sink", move))
    assert (lost, doubled, order) == (1, 0, 0) and wrong == 1


def test_an_output_with_another_key_is_wrong(stage: Stage) -> None:
    def rekey(records: list[Record]) -> None:
        records[10] = records[10]._replace(key=b"somebody")

    assert counts(spoiled(stage, "sink", rekey)) == (0, 0, 0, 1)


def test_a_missing_dead_letter_is_lost_and_a_second_one_doubled(stage: Stage) -> None:
    assert counts(spoiled(stage, "dead", lambda r: r.pop() and None)) == (1, 0, 0, 0)
    assert counts(spoiled(stage, "dead", lambda r: r.append(r[0]))) == (0, 1, 0, 0)


def test_a_dead_letter_of_a_good_record_or_with_another_value_is_wrong(stage: Stage) -> None:
    def accuse(records: list[Record]) -> None:
        good = ("soma-origin", b"topic/0/999999")
        records.append(records[0]._replace(headers=(good, ("soma-reason", b"whim"))))

    def alter(records: list[Record]) -> None:
        records[0] = records[0]._replace(value=b"other")

    assert counts(spoiled(stage, "dead", accuse)) == (0, 0, 0, 1)
    assert counts(spoiled(stage, "dead", alter)) == (0, 0, 0, 1)


def test_a_lost_copy_of_a_misrouted_record_is_named(stage: Stage) -> None:
    def unmark(records: list[Record]) -> None:
        at = next(i for i, r in enumerate(records) if r.header("soma-origin") is not None)
        records[at] = records[at]._replace(headers=())

    found = spoiled(stage, "source", unmark)
    assert [text for text in found.lost if "misrouted" in text]


def test_a_state_row_that_is_missing_old_or_strange_is_named(stage: Stage) -> None:
    rows = [r for r in stage.state if r.key != b"@position"]
    assert counts(spoiled(stage, "state", lambda r: r.remove(rows[0]))) == (1, 0, 0, 0)

    def stranger(records: list[Record]) -> None:
        records.append(rows[0]._replace(key=b"nobody", offset=10**6))

    assert counts(spoiled(stage, "state", stranger)) == (0, 0, 0, 1)

    def other(records: list[Record]) -> None:
        records.append(rows[1]._replace(key=rows[0].key, partition=rows[0].partition, offset=10**6))

    assert len(spoiled(stage, "state", other).wrong) == 1


def test_a_position_before_the_last_record_is_lost_work(stage: Stage) -> None:
    def back(records: list[Record]) -> None:
        at = next(i for i, r in enumerate(records) if r.key == b"@position")
        _, row = WIRE.decode(records[at].value, "position")
        row["next_offset"] -= 1
        records[at] = records[at]._replace(value=WIRE.encode("position", row))

    assert counts(spoiled(stage, "state", back)) == (1, 0, 0, 0)
