"""What becomes of a record that is folded alone, and which settings are in force for it."""

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.engine.plan import defaults_of
from agents.engine.registry import explainer
from agents.engine.transport import Fetched
from agents.history.epochs import Stretch
from agents.history.folded import Folded
from agents.history.refold import Refolding
from agents.kit.explaining import num, values_of, vec
from agents.kit.setting import Setting
from agents.kit.tenant_settings import TenantSettings
from agents.segmentation.settings import SETTINGS as SEGMENTATION
from ops.examples import PLUGIN
from tests.contract.harness import PROCESSORS, SETTINGS, Message, Run, batch_of, plan_of, setting
from tests.unit.agents.explaining import at_the_last

VECTOR = np.float32([3.0, 4.0]).tobytes()


def fate_of(last: Message, partitions: int = 1, tenant: str = "a") -> Folded | None:
    """What counting makes of a message, behind a good one."""
    processor = next(one for one in PROCESSORS if one.name == "counting")
    plan = plan_of(processor, partitions)
    epoch = {"number": 1, "settings": defaults_of(processor, SETTINGS)}
    fold = Refolding(plan, Run(plan).place, {}, tenant, lambda: None)
    fold.at = last.offset
    fold.enter(epoch, {})
    batch, end = batch_of([last]), last.offset + 1
    return fold.look_at([Stretch(epoch, fold.at, end)], iter([Fetched(0, [batch], end, end)]))


def test_an_example_of_a_row_processor_explains_itself_by_its_row() -> None:
    records = [
        {"tenant": "a", "domain": "state", "ts": 1_700_000_000_000_000 + k, "vector": VECTOR,
         "sequence": None}
        for k in range(3)
    ]  # fmt: skip
    case, fate = at_the_last("counting", records, every="3")
    assert (case.before[""]["total"], case.after[""]["total"]) == (2, 3)
    assert [one["total"] for one in fate.outputs["examples.counts"]] == [3]
    counting = importlib.import_module(PLUGIN.processors["counting"])
    assert counting.explain(case) == ["It is observation 3 of a; each 3 make a record."]
    assert explainer("integrator") is not None and explainer("replay") is None


def test_what_isnt_folded_says_why() -> None:
    dead = fate_of(Message(5, b"a", b"junk"))
    assert dead is not None and (dead.fate, dead.reason) == ("dead_letter", "bad_wire_format")
    assert (
        "neither the Confluent wire format" in dead.detail and not dead.outputs["examples.counts"]
    )
    told = fate_of(setting(5, "a", "every", "2"))
    assert told is not None and (told.fate, told.reason) == ("control", "")
    refused = fate_of(setting(5, "a", "every", "no"))
    assert refused is not None and refused.reason == "control_refused"
    assert fate_of(Message(5, b"b", b"junk")) is None, "another tenant's"


numbers: st.SearchStrategy[dict[str, float]] = st.fixed_dictionaries(
    {}, optional={"cpd": st.sampled_from([0.0, 1.0, 2.0]), "gradient@state": st.just(7.0),
                  "gradient": st.just(3.0), "gradient@agent": st.just(5.0)},
)  # fmt: skip


@given(everyone=numbers, own=numbers, domain=st.sampled_from(["", "state", "agent", "x"]))
def test_settings_are_those_that_the_fold_itself_goes_by(
    everyone: dict[str, float], own: dict[str, float], domain: str
) -> None:
    defaults = {"gradient": "2.5", "warmup": "9"}
    found = values_of(SEGMENTATION, defaults, everyone, own, domain)
    table = TenantSettings(SEGMENTATION, defaults)
    table.replace("*", everyone)
    table.replace("t", own)
    at = table.row("t", domain)  # which may make the table anew
    for k, (name, one) in enumerate(SEGMENTATION.items()):
        assert one.number(found[name]) == table.table[at, k], name


@pytest.mark.parametrize(("kept", "value"), [({}, 4), ({"n": "5"}, 5)])
def test_settings_that_rows_keep_as_text(kept: dict[str, Any], value: int) -> None:
    assert values_of({"n": Setting(4, "n", 0, 9)}, {}, kept, {}) == {"n": value}


def test_numbers_for_people() -> None:
    assert num(0.000123456) == "0.0001235"
    assert vec([1.0, 2.5]) == "[1, 2.5]" and vec(range(7)) == "[0, 1, 2, 3, 4, 5, … (7)]"
