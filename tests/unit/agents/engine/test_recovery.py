"""Rows of a state topic into a fold: whatever stands there, nothing is taken half."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.digest import digest
from agents.engine.epochs import epoch_key
from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.processor import Processor
from agents.engine.recovery import Loader
from agents.engine.warm import warm
from agents.kit import Emit, RowProcessor
from tests.contract.harness import KEEPING, SETTINGS, Run, messages, plan_of, samples
from tests.unit.ops.examples.counting.samples import records as observations
from topics import codec

keeping = pytest.mark.parametrize("processor", KEEPING, ids=lambda p: p.name)


@dataclass
class Row:
    total: int = 0
    last_ts: int = 0
    norms: float = 0.0


def lived(plan: Plan) -> Run:
    records = samples(plan.processor).records(np.random.default_rng(1), 60)
    return Run(plan).feed([messages(plan, records)])


def load(plan: Plan, rows: list[tuple[bytes, bytes | None]], chunk: int = 1000) -> Run:
    run = Run(plan)
    loader = Loader(plan, 0, run.fold)
    for lo in range(0, len(rows), chunk):
        part = rows[lo : lo + chunk]
        gone = np.array([value is None for _, value in part], np.uint8)
        loader.load([key for key, _ in part], [value or b"" for _, value in part], gone)
    assert loader.rows == len(rows)
    return run


@keeping
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), chunk=st.integers(1, 20))
def test_later_rows_replace_earlier_ones_across_chunks(
    processor: Processor, seed: int, chunk: int
) -> None:
    plan, rng = plan_of(processor), np.random.default_rng(seed)
    run = lived(plan)
    rows = list(run.rows().items())
    order = list(rng.permutation(len(rows)))
    stale = [rows[i] for i in rng.permutation(len(rows))[:5]]
    of_entities = [value for key, value in rows if b"\x1f" in key]
    last = (of_entities or [value for _, value in rows])[0]
    early: list[tuple[bytes, bytes | None]] = [(key, last) for key, _ in stale if b"\x1f" in key]
    found = load(plan, early + [rows[int(i)] for i in order], chunk)
    assert digest(plan, found.fold) == digest(plan, run.fold)


@keeping
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), chunk=st.integers(1, 20))
def test_a_tombstone_takes_a_row_back(processor: Processor, seed: int, chunk: int) -> None:
    plan = plan_of(processor)
    rows: list[tuple[bytes, bytes | None]] = list(lived(plan).rows().items())
    keep = np.random.default_rng(seed).random(len(rows)) < 0.5
    gone: list[tuple[bytes, bytes | None]] = [
        (key, None) for (key, _), kept in zip(rows, keep, strict=True) if not kept
    ]
    some = [row for row, kept in zip(rows, keep, strict=True) if kept]
    found = load(plan, [*rows, *gone, (b"never seen", None)], chunk)
    assert digest(plan, found.fold) == digest(plan, load(plan, some).fold)


@keeping
def test_a_row_that_cannot_be_read_stops_with_its_key(processor: Processor) -> None:
    plan = plan_of(processor)
    key, value = next(iter(lived(plan).rows().items()))
    for bad, why in (
        (codec.header(777) + value[5:], "an unknown schema"),
        (value[:-1], "bad Avro"),
        (value + b"\0", "bad Avro"),
        (b"", "bad Avro"),
    ):
        with pytest.raises(UnknownVersion, match=rf"{plan.state}/0: row .* has {why}"):
            load(plan, [(key, value), (b"other", bad)])


@keeping
def test_a_row_whose_settings_are_a_newer_version_s_stops_the_partition(
    processor: Processor,
) -> None:
    """It decodes, for settings are a map; what it says can't be obeyed here, nor passed by."""
    plan = plan_of(processor)
    key, value = next(iter(lived(plan).rows().items()))
    name, row = codec.decode(value)
    assert "settings" in row
    kind = next(
        field["type"] for field in plan.row_layout.schema["fields"] if field["name"] == "settings"
    )
    future = "1" if kind["values"] == "string" else 1.0
    value = codec.encode(name, row | {"settings": {"from_the_future": future}})
    tenant = key.partition(b"\x1f")[0]  # whose row has the settings, where domains have rows too
    with pytest.raises(UnknownVersion, match=rf"{plan.state}/0: .*newer version wrote it"):
        load(plan, [(tenant, value)])


def test_a_row_whose_entity_has_a_slash_is_no_epoch() -> None:
    def law(row: Row, record: Any, out: Emit) -> None:
        row.total += 1

    made = RowProcessor(
        "counting", "cog.observations", (), Row, law, key=lambda record: f"a/{record.domain}/skip"
    )
    plan = plan_of(made)
    run = Run(plan).feed([messages(plan, observations(np.random.default_rng(1), 20))])
    rows = [Message(key=key, value=value) for key, value in run.rows().items()]
    assert len(rows) > 1 and all(b"\x1fa/" in (row.key() or b"") for row in rows)
    again = Run(plan)
    loader = Loader(plan, 0, again.fold)
    loader.take([*rows, Message(key=epoch_key("other", 0), value=b"junk")])
    assert loader.rows == len(rows) and digest(plan, again.fold) == digest(plan, run.fold)


@keeping
def test_epochs_are_kept_apart_by_processor_and_partition(processor: Processor) -> None:
    assert epoch_key(processor.name, 3) == f"{processor.name}/3".encode()


@keeping
def test_the_warm_up_runs_and_leaves_nothing(processor: Processor) -> None:
    for partitions in (1, 7):
        warm(plan_of(processor, partitions), SETTINGS)
