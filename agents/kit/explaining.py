"""How a processor explains one record: in words, with its law's own numbers.

A function `explain(case)`, in the module that declares the processor or in a module `explain`
beside it, is pure: a record, its tenant's rows on both sides of it and what came of it go in,
sentences come out. What rows and outputs don't say is asked of the law's own functions, never
computed a second way. `soma explain` prints them; without such a function it shows what changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agents.engine.processor import Fold
from agents.kit.asleep import KEPT_AS, state_of
from agents.kit.schema import SETTINGS
from agents.kit.setting import AT, Setting, Value
from topics.columns import Buffer, Columns
from topics.layout import Layout
from topics.schemas import schemas

SHOWN = 6  # numbers of a vector
DIGITS = 4  # of a number
FROZEN = "The tenant is frozen: the record is taken into its state, and nothing is written."

Fields = Mapping[str, Any]  # a record or row as its schema has it: times in microseconds, bytes


@dataclass(frozen=True, slots=True)
class Case:
    """One record that was folded. Rows are by domain or entity; "" is the tenant's own."""

    tenant: str
    record: Fields
    before: Mapping[str, Fields]
    after: Mapping[str, Fields]
    outputs: Mapping[str, Sequence[Fields]]  # by topic
    values: Mapping[str, Value]  # settings that were in force for it

    def number(self, setting: str) -> float:
        """The value of a setting that is a number."""
        return float(self.values[setting])

    @property
    def state(self) -> str:
        """How deep the tenant sleeps as the record is folded, which may have woken it."""
        return _state(self.after)

    @property
    def woken(self) -> bool:
        """Whether the record ended the tenant's sleep."""
        return _state(self.before) != _state(self.after)


def _state(rows: Mapping[str, Fields]) -> str:
    return state_of(rows.get("", {}).get(SETTINGS, {}).get(KEPT_AS, 0))


Explain = Callable[[Case], list[str]]


def values_of(
    settings: Mapping[str, Setting], defaults: Mapping[str, str], everyone: Fields, own: Fields,
    domain: str = "",
) -> dict[str, Value]:  # fmt: skip
    """The settings in force for a tenant's domain, as `tenant_settings` has them.

    `defaults` are the deployment's values, `everyone` and `own` what rows keep of settings: words,
    or the numbers that stand for them.
    """
    found: dict[str, Value] = {}
    for name, setting in settings.items():
        value: Any = defaults.get(name, setting.default)
        for kept in (everyone, own):
            for key in (name, f"{name}{AT}{domain}"):
                value = kept.get(key, value)
        found[name] = (
            setting.parse(value) if isinstance(value, str) else setting.of_number(float(value))
        )
    return found


def load(fold: Fold, schema: str, rows: Mapping[str, Fields]) -> None:
    """Let a fold take in rows by their keys, as from the state topic."""
    columns, scratch, n = Columns(Layout(schemas().newest(schema))), Buffer(64), len(rows)
    columns.reserve(max(1, n))
    pos, size = np.zeros((2, n), np.int64)
    for k, (key, row) in enumerate(rows.items()):
        pos[k], size[k] = scratch.append(key.encode()), len(key.encode())
        columns.put(k, dict(row), scratch)
    fold.load(columns, 0, n, scratch.data, pos, size, np.zeros(n, np.uint8))


def num(value: float) -> str:
    """A number for people."""
    return f"{value:.{DIGITS}g}"


def vec(values: ArrayLike) -> str:
    """A vector for people, the first numbers of a long one."""
    found = np.asarray(values).tolist()
    more = f", … ({len(found)})" if len(found) > SHOWN else ""
    return f"[{', '.join(map(num, found[:SHOWN]))}{more}]"


def seconds(micros: float) -> str:
    """A time that has passed, in seconds."""
    return f"{num(micros / 1e6)} s"
