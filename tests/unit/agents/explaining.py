"""A record with the rows on both sides of it, as `soma explain` gives them to a processor."""

import re
from collections.abc import Sequence
from typing import Any

from agents.engine.batches import RawBatch
from agents.engine.plan import defaults_of
from agents.engine.transport import Fetched
from agents.history.epochs import Stretch
from agents.history.explain import case_of
from agents.history.finding import Place, Record
from agents.history.folded import Folded
from agents.history.refold import Refolding
from agents.kit.explaining import Case
from tests.contract.harness import (
    LOG_MS,
    PROCESSORS,
    SETTINGS,
    Message,
    Run,
    batch_of,
    messages,
    plan_of,
    setting,
)
from topics import codec

NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def numbers(text: str) -> list[float]:
    """The numbers in a sentence."""
    return [float(one) for one in NUMBER.findall(text)]


def line(words: Sequence[str], begin: str) -> str:
    """The one sentence that begins so."""
    (found,) = [one for one in words if one.strip().startswith(begin)]
    return found


def at_the_last(name: str, records: list[dict[str, Any]], **values: str) -> tuple[Case, Folded]:
    """The last of a tenant's records, folded behind the others, under settings of its own."""
    processor = next(one for one in PROCESSORS if one.name == name)
    plan, tenant, n = plan_of(processor), records[0]["tenant"], len(values)
    told = [setting(k, tenant, one, text) for k, (one, text) in enumerate(values.items())]
    log: list[Message] = told + messages(plan, records, n)
    end = len(log)
    epoch = {"number": 1, "settings": defaults_of(processor, SETTINGS)}
    fold = Refolding(plan, Run(plan).place, {}, tenant, lambda: None)
    fold.at = 0
    fold.enter(epoch, {})
    batches: list[RawBatch] = [batch_of(log)]
    fold.go_through([Stretch(epoch, 0, end - 1)], iter([Fetched(0, batches, end, end)]))
    before = fold.rows()
    last = [batch_of(log[-1:])]
    fate = fold.look_at([Stretch(epoch, end - 1, end)], iter([Fetched(0, last, end, end)]))
    assert fate is not None
    value = log[-1].value or b""
    record = Record(
        Place(processor.source, 0, end - 1), "", LOG_MS, log[-1].key, value,
        codec.decode(value)[1], plan.schema,
    )  # fmt: skip
    states = before, fold.rows(), fold.everyone()
    return case_of(plan, record, states, fate, epoch["settings"]), fate
