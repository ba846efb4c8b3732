"""What a job was told to do, as its state row and its status keep it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from agents.replay.bounds import EVERY, SHOWN, Bound, bound, refusal

TYPES = ("start", "pause", "resume", "stop", "status")
TENANTS_MAX = 1_000
CHANGE = re.compile(r"([a-z][a-z0-9_]{0,63})\.([^=\s]{1,200})=(.{1,1024})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """A start command's content: the fields of replay_command but for id, type and actor."""

    mode: str = ""
    source: str = ""
    target: str = ""
    shadow: str = ""
    tenants: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    predicate: str = ""
    since: str = ""
    until: str = ""
    partial: bool = False
    dry_run: bool = False
    apply: bool = False
    reasons: tuple[str, ...] = ()
    max_attempts: int = 0
    rate_limit: int = 0
    settings: tuple[str, ...] = ()  # PROCESSOR.NAME=VALUE
    status: str = ""
    folded_to: str = ""  # PARTITION:OFFSET,…
    begin: str = ""

    @classmethod
    def of(cls, record: Any) -> Self:
        """Of a record of the schema, whose fields are attributes."""
        return cls(**_frozen({one.name: getattr(record, one.name) for one in fields(cls)}))

    @classmethod
    def read(cls, body: str) -> Self:
        """The inverse of `body`. ValueError for one with what this version doesn't know."""
        given = json.loads(body)
        if unknown := sorted(given.keys() - {one.name for one in fields(cls)}):
            raise ValueError(f"a newer version accepted it: {', '.join(unknown)}")
        return cls(**_frozen(given))

    @property
    def body(self) -> str:
        """As text, the same for the same command in later versions too: defaults are left out."""
        said = {
            one.name: value
            for one in fields(self)
            if (value := getattr(self, one.name)) != one.default
        }
        return json.dumps(said, sort_keys=True, separators=(",", ":"))

    @property
    def bounds(self) -> tuple[Bound | None, Bound | None]:
        """Both ends of its range. ValueError names the one that can't be read."""
        found: list[Bound | None] = []
        for name in ("since", "until"):
            try:
                found.append(bound(getattr(self, name)))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return found[0], found[1]


def said_of(folded_to: str) -> dict[int, int]:
    """Before which offset all of a partition was folded, as somebody says. ValueError."""
    try:
        found = bound(folded_to) or Bound()
    except ValueError as error:
        raise ValueError(f"folded_to: {error}") from None
    if found.kind != "offsets" or EVERY in found.offsets:
        raise ValueError(f"folded_to: {folded_to[:SHOWN]!r}: PARTITION:OFFSET, such as 3:1200")
    return dict(found.offsets)


def changes_of(settings: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The processor that settings to be tried are of, and their values by NAME. ValueError."""
    found: dict[str, dict[str, str]] = {}
    for text in settings:
        given = CHANGE.fullmatch(text)
        if given is None:
            raise ValueError(f"{text[:SHOWN]!r}: PROCESSOR.NAME=VALUE, as integrator.fusion=hedge")
        own = found.setdefault(given[1], {})
        if own.setdefault(given[2], given[3]) != given[3]:
            raise ValueError(f"{given[1]}.{given[2]} is given twice")
    if len(found) != 1:
        raise ValueError(f"give settings of one processor, not of {', '.join(found) or 'none'}")
    return next(iter(found.items()))


def _frozen(given: dict[str, Any]) -> dict[str, Any]:
    """Lists as tuples."""
    return {name: tuple(one) if isinstance(one, list) else one for name, one in given.items()}


def range_refusal(command: Command, now: int) -> str | None:
    """Why a command's range can't be, as far as it can be told without the log; `now` in us."""
    try:
        return refusal(*command.bounds, now)
    except ValueError as error:
        return str(error)
