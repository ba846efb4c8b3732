"""Others' schemas: of a producer that registered one of its own for a record of ours.

It may say less than ours, or more, or in another order: where the newest of ours can read it (by
the rules of `topics.compat`), its records are as good as any. Whatever else is named.
"""

import json
from dataclasses import dataclass
from typing import Any

from topics.compat import unreadable
from topics.schemas import Schema, SchemaError, Schemas, parse


class NotReadableError(Exception):
    """Why nothing of ours can read what an id stands for."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A schema of another's, and which of ours reads it."""

    name: str
    parsed: Schema


def judged(number: int, text: str, known: Schemas) -> Stranger:
    """The schema that an id of the registry stands for. NotReadableError says why none of ours
    reads it.
    """
    try:
        raw: Any = json.loads(text)
    except ValueError:
        raise NotReadableError(
            f"what the id {number} stands for in the registry is no JSON"
        ) from None
    said = str(raw.get("name", raw.get("type"))) if isinstance(raw, dict) else str(raw)
    title = f"the id {number} is {said[:100]} in the registry"
    name = said.rpartition(".")[2]
    if name.startswith("control_"):
        raise NotReadableError(f"{title}: control records are of our own schemas only")
    if not known.versions(name):
        raise NotReadableError(f"{title}, which is none of our schemas")
    try:
        problems = unreadable(known.raw(name), raw)
        parsed = parse(raw, said)
        if not problems:
            _compiled(number, parsed, known.newest(name))
    except SchemaError as error:
        problems = [str(error)]
    except Exception as error:  # of a shape that ours never have: whatever it breaks, it is unfit
        problems = [f"it isn't of a shape that can be read ({type(error).__name__}: {error})"]
    if problems:
        raise NotReadableError(f"{title}, which {name} can't read: {'; '.join(problems)[:300]}")
    return Stranger(name, parsed)


def _compiled(number: int, parsed: Schema, newest: Schema) -> None:
    """Have the kernels' program of it made once: what they can't read is refused here."""
    from topics.layout import Layout  # NumPy: when there is one
    from topics.programs import reading

    reading(Layout(newest), {number: parsed})
