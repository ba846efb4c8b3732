"""What a mode of replay is: what a job can do with the past.

A mode is a class of its own module. It says what of a command can't be without looking at the
broker (`refusal`, pure: the processor asks), finds out what there is to do (`plan`), and does it in
steps. Each step's records, and the place behind it, go into one Kafka transaction; a job whose
worker dies goes on with `steps` from the last place, by the plan as it was made first.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agents.dlq.changes import changed_fields
from agents.dlq.letters import BadChoiceError
from agents.replay.bounds import SHOWN
from agents.replay.command import Command, changes_of, range_refusal, said_of
from agents.replay.filters import filter_refusal
from agents.tables.declared import TOPICS
from topics.catalogue import CATALOGUE, dlq_of, source_of

if TYPE_CHECKING:
    from agents.engine.builder import RawBuilder

Take = Callable[[int], Awaitable[int]]  # records wanted -> how many may be read now, 1 at least
WHAT_IF, PROJECTION, SHADOW = "what-if", "projection", "shadow"
MODES = ("republish", "rebuild", "redrive", "outbox", WHAT_IF, PROJECTION, SHADOW)
NOT_OF_REPUBLISH = ("apply", "reasons", "max_attempts", "settings", "status", "folded_to", "begin")
NOT_OF_REBUILD = (
    "source", "domains", "predicate", "reasons", "max_attempts", "settings", "status",
)  # fmt: skip
NOT_WITH_SHADOW = ("apply", "partial", "since", "until", "folded_to", "begin")  # of a rebuild
NOT_OF_REDRIVE = (
    "target", "shadow", "domains", "predicate", "apply", "status", "folded_to", "begin",
)  # fmt: skip
NOT_OF_OUTBOX = (
    "target", "shadow", "domains", "predicate", "partial", "apply", "reasons", "max_attempts",
    "settings", "folded_to", "begin",
)  # fmt: skip
PUT_BACK = ("failed", "skipped", "sent")  # statuses of events that can be
NOT_OF_WHAT_IF = (
    "apply", "source", "target", "shadow", "domains", "predicate", "reasons", "max_attempts",
    "status", "folded_to", "begin",
)  # fmt: skip
NOT_OF_PROJECTION = (
    "source", "shadow", "tenants", "domains", "predicate", "since", "until", "apply", "reasons",
    "max_attempts", "settings", "status", "folded_to", "begin",
)  # fmt: skip
NOT_OF_SHADOW = (*NOT_OF_WHAT_IF, "since", "until", "partial", "dry_run")
BEGINS = ("", "log", "snapshot")  # of a rebuild
ATTEMPTS_MAX = 1_000
CHANGES_MAX = 100_000  # characters of what a redrive sets: each part of it is audited with them
TRIED_MAX = 20  # tenants of a what-if that are named: each is shown whole
SAMPLE_MAX = 500  # of a shadow


class CantReplayError(Exception):
    """Why a job can't be: what it needs isn't there, or refuses it. The text is for people."""


class JobFailedError(Exception):
    """Why a job that ran can't go on. The text is for people."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What there is to do. `said` is JSON data: what people want to know, what `steps` needs."""

    total: int  # offsets in all
    said: Mapping[str, Any]
    warning: str = ""  # what is missing, in words


@dataclass(slots=True)
class Step:
    """A part of the work: one transaction."""

    position: Mapping[int, int]  # by partition of the source, where it goes on; of those that moved
    done: int = 0  # offsets passed
    read: int = 0  # records
    sent: int = 0
    size: int = 0  # bytes of those
    times: tuple[int, int] | None = None  # of the log, ms: of the first and the last of those sent
    tenants: Counter[str] = field(default_factory=Counter)  # of those sent
    sends: list[tuple[str, int, "RawBuilder"]] = field(default_factory=list)
    said: Mapping[str, Any] = field(default_factory=dict)  # what is new in the plan's
    digests: tuple[str, str] | None = None  # of the rows as they were, and of those made anew
    settles: bool = False  # the next step begins only when this one is committed


class Mode(Protocol):
    """What the service asks of a mode; one object per job and run."""

    async def plan(self, command: Command, take: Take) -> Plan:
        """Look at the broker. CantReplayError; KafkaError, KafkaException or OSError pass."""

    def steps(
        self, command: Command, plan: Mapping[str, Any], position: Mapping[int, int], take: Take
    ) -> AsyncGenerator[Step, None]:
        """The work from a position on (empty: from the beginning), asking `take` before it reads.

        It may be closed at any await. JobFailedError; KafkaError, KafkaException or OSError pass.
        """


def refusal_of(command: Command, now: int) -> str | None:
    """Why a start command can't be, as far as it can be told without the broker; `now` in us."""
    if command.mode not in MODES:
        return f"there is no mode {command.mode!r}; there are {', '.join(MODES)}"
    if command.rate_limit < 0:
        return f"rate_limit: {command.rate_limit} records a second"
    return range_refusal(command, now) or OF_MODE[command.mode](command)


def _of_rebuild(command: Command) -> str | None:
    if not command.target:
        return "target: the processor whose state is to be made anew is lacking"
    if said := [name for name in NOT_OF_REBUILD if getattr(command, name)]:
        return f"{', '.join(said)}: not of rebuild"
    if command.shadow and (said := [name for name in NOT_WITH_SHADOW if getattr(command, name)]):
        # The last records before a switch are folded while the owner waits, and in a transaction
        # of the partition's own: what goes there waits for nothing else.
        return f"{', '.join(said)}: not with a shadow: look at the outputs, then put it in place"
    bounds = command.since, command.until
    if any(bounds) and not (all(bounds) and command.partial):
        return "since and until: of a rebuild they say what may be missing, both, and with partial"
    if any(one is not None and one.kind != "offsets" for one in command.bounds):
        return "since and until: what may be missing from a rebuild is said in offsets"
    if command.begin not in BEGINS:
        return f"begin: {command.begin!r} is neither log nor snapshot"
    try:
        said_of(command.folded_to)
    except ValueError as error:
        return str(error)
    return filter_refusal(command)


def _of_redrive(command: Command) -> str | None:
    if said := [name for name in NOT_OF_REDRIVE if getattr(command, name)]:
        return f"{', '.join(said)}: not of redrive"
    if dlq_of(command.source) not in CATALOGUE:
        known = ", ".join(name for name in CATALOGUE if dlq_of(name) in CATALOGUE)
        return f"source: {command.source!r} has no dead letters; those have: {known}"
    if any(one is not None and one.time is None for one in command.bounds):
        return "since and until: of dead letters they are times"
    if not 0 <= command.max_attempts <= ATTEMPTS_MAX:
        return f"max_attempts: 1 to {ATTEMPTS_MAX:,}"
    try:
        changed_fields(command.settings)
    except BadChoiceError as error:
        return f"settings: {error}"
    if (size := sum(map(len, command.settings))) > CHANGES_MAX:
        return f"settings: {size:,} characters, at most {CHANGES_MAX:,}"
    return filter_refusal(command)


def _of_outbox(command: Command) -> str | None:
    if said := [name for name in NOT_OF_OUTBOX if getattr(command, name)]:
        return f"{', '.join(said)}: not of outbox"
    if command.status not in ("", *PUT_BACK):
        return f"status: {command.status!r} is none of {', '.join(PUT_BACK)}"
    if any(one is not None and one.time is None for one in command.bounds):
        return "since and until: of the outbox they are times"
    if command.status == "sent" and not (command.tenants or command.since or command.until):
        return "of what was sent say whose, or when: tenants, since or until"
    return filter_refusal(command)


def _of_trial(command: Command, others: Sequence[str], what: str) -> str | None:
    """Of what folds under other settings; `others` are fields that `what` has no use for."""
    try:
        changes_of(command.settings)
    except ValueError as error:
        return f"settings: {error}"
    if said := [name for name in others if getattr(command, name)]:
        return f"{', '.join(said)}: not of {what}"
    return None


def _of_what_if(command: Command) -> str | None:
    what = "a what-if, which writes nothing and folds all domains"
    if why := _of_trial(command, NOT_OF_WHAT_IF, what):
        return why
    if len(command.tenants) > TRIED_MAX:
        return f"tenants: at most {TRIED_MAX}, not {len(command.tenants)}; none for all together"
    return filter_refusal(command)


def _of_shadow(command: Command) -> str | None:
    what = "a shadow, which begins now and writes nothing"
    if why := _of_trial(command, NOT_OF_SHADOW, what):
        return why
    if not 0 < len(command.tenants) <= SAMPLE_MAX:
        return f"tenants: 1 to {SAMPLE_MAX}, not {len(command.tenants)}"
    return filter_refusal(command)


def _of_projection(command: Command) -> str | None:
    if said := [name for name in NOT_OF_PROJECTION if getattr(command, name)]:
        return f"{', '.join(said)}: not of a projection, which is made anew whole"
    if command.target not in TOPICS:
        known = ", ".join(TOPICS)
        return f"target: there is no projection {command.target[:SHOWN]!r}; there are {known}"
    return None


def _of_republish(command: Command) -> str | None:
    if not command.source:
        return "source: the topic to read is lacking"
    if bool(command.target) == bool(command.shadow):
        return "give either a target, a topic of your own, or a shadow, a namespace"
    if command.target == command.source:
        return "target: a topic can't be replayed into itself"
    if command.target == dlq_of(source_of(command.target)):
        return f"target: {command.target} is a topic of dead letters, and takes no replays"
    if said := [name for name in NOT_OF_REPUBLISH if getattr(command, name)]:
        return f"{', '.join(said)}: not of republish"
    return filter_refusal(command)


OF_MODE: Mapping[str, Callable[[Command], str | None]] = {
    "republish": _of_republish, "rebuild": _of_rebuild, "redrive": _of_redrive,
    "outbox": _of_outbox, WHAT_IF: _of_what_if, PROJECTION: _of_projection, SHADOW: _of_shadow,
}  # fmt: skip
