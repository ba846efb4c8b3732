"""What a package declares to become a stream processor, and what its fold must offer.

A fold is one partition's state and law. It is a pure, deterministic function of its input: no
clock, no random numbers, no I/O, and no dependence on where batches are cut, on threads or on the
order in which names were interned. The engine does all the rest: fetching, decoding, ordering,
encoding, transactions, recovery.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from agents.kit.setting import Setting
from topics.arrays import Buffer, Columns

if TYPE_CHECKING:  # kernels are compiled anew when what their modules import has changed
    from agents.settings import Settings

# Which buffer a span column points into (columns.Layout's `src`).
SRC_BATCH = 0  # the work buffer of the batch: spans of the input records
SRC_NAMES = 1  # the fold's interned names
SRC_SCRATCH = 2  # bytes that the fold wrote itself: `Output.scratch`, `StateRows.scratch`

SEP = "\x1f"  # in a key, between a tenant and its domain or entity; no tenant has it
OWN_REASONS = 64  # status codes from here on are the processor's: `Processor.reasons`, by index

OUTCOMES = ("allow", "deny", "override", "error")  # of a policy's decision
RATIONALE_BYTES_MAX = 256  # UTF-8: every frame of the decision carries it


@dataclass(frozen=True, slots=True)
class Place:
    """Where a partition's records come from: the source of all derived ids.

    `topic_id` is the first 8 hex digits of the source topic's Kafka id; recreated, it has another.
    """

    topic_id: str
    partition: int

    @property
    def prefix(self) -> bytes:
        """What stands before the offset in the id of a record: b'<8 hex>-<partition>-'."""
        return f"{self.topic_id}-{self.partition}-".encode()


@dataclass(slots=True)
class Batch:
    """Decoded records of one partition, in log order.

    `status[r]` is 0 for a record to fold; a fold refuses a record by writing
    `OWN_REASONS + index` into it (before touching its state), which makes it a dead letter.
    """

    buf: NDArray[np.uint8]  # what SRC_BATCH spans point into
    columns: Columns  # the source schema's layout
    offsets: NDArray[np.int64]
    log_ms: NDArray[np.int64]  # the broker's timestamps, milliseconds
    status: NDArray[np.uint8]
    # Row -> what its dead letter says, where the fold knows more than the reason does.
    details: dict[int, str] = field(default_factory=dict)
    # With `Processor.kinds`: which schema a record has (0: `columns`; k: `others[k - 1]`).
    kind: NDArray[np.uint8] | None = None
    others: tuple[Columns, ...] = ()
    # When a fold that takes its time should end early, by time.monotonic().
    ends: float = math.inf


@dataclass(slots=True)
class Output:
    """Records for one sink. `cause[k]` is the row of the batch that record k comes from.

    The engine keys record k by the tenant of its cause, and sends it to the same partition; unless
    `own` isn't empty: then record k has the key own[k][0] and goes to the partition own[k][1], or
    as said where these are None and -1. Its cause may be -1 (no record: a tick) where both are
    given. The records in `gone` are deletions for a compacted topic: a key without a value, whose
    columns are ignored.
    """

    columns: Columns
    scratch: Buffer
    cause: NDArray[np.int64]
    n: int = 0
    own: list[tuple[bytes | None, int]] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)

    def reserve(self, rows: int, children: int = 0, scratch: int = 0) -> None:
        """Make room for so many more rows, children of maps and arrays, and scratch bytes."""
        need = self.n + rows
        self.columns.reserve(need, self.columns.used + children)
        if self.cause.shape[0] < need:
            grown = np.empty(max(need, 2 * self.cause.shape[0]), np.int64)
            grown[: self.n] = self.cause[: self.n]
            self.cause = grown
        self.scratch.reserve(scratch)


@dataclass(slots=True)
class StateRows:
    """Rows of the state topic that a fold changed; keys point into the fold's names (SRC_NAMES).

    `gone[k]` marks a tombstone (the row's columns are then ignored).
    """

    columns: Columns
    scratch: Buffer
    n: int
    key_pos: NDArray[np.int64]
    key_len: NDArray[np.int64]
    gone: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Control:
    """A control record, in its place in the order of the partition.

    kind "setting": `tenant` ('*' = every tenant without a value of its own), `setting`, `value`
    (text; '' takes the tenant's own value back). kind "tick": `ts` is the wall time, microseconds.
    kind "answer", to a `Question` of this tenant: `setting` is the outcome (one of OUTCOMES),
    `value` the JSON text {"id", "leader", "rationale"}. Its form and place are checked, not whether
    the question was ever asked: a fold ignores ids that it isn't waiting for (late, or doubled).
    Its `ts` is the log's time in microseconds.
    kind "sleep": `setting` is the state that the tenant is in from here on, `value` what stands for
    it (`agents/kit/asleep.number`) as text.

    `version` is what the processor control gave a setting; 0: none, it was written directly.
    """

    kind: str
    tenant: str
    setting: str
    value: str
    ts: int
    offset: int
    log_ms: int
    version: int = 0


@dataclass(frozen=True, slots=True)
class Reads:
    """Which fields of a schema the engine checks, and how long its strings may be.

    `domain` and `ts` are None where records have none: then they have the log's time.
    `of_settings`: the tenant may be '*', whose records live where that text belongs, and a record's
    key may be its tenant, 0x1f, and what it sets.
    """

    tenant: str = "tenant"
    domain: str | None = "domain"
    ts: str | None = "ts"
    strings: Mapping[str, int] = field(default_factory=dict)  # field -> bytes at most
    of_settings: bool = False


class Fold(Protocol):
    """One partition's state and law; made anew by `Processor.make` for every assignment."""

    @property
    def names(self) -> NDArray[np.uint8]:
        """The bytes that SRC_NAMES spans point into, as they are now."""

    def fold(self, batch: Batch, lo: int, hi: int, outputs: tuple[Output, ...]) -> int | None:
        """Fold records lo..hi-1 whose status is 0, appending to `outputs` (one per sink).

        Returns None; or, where it ended early, the first row that it left, after at least one that
        it didn't: what it has folded is committed, and the rest comes again. Raises LawFailed
        (agents/engine/errors.py) with the row where the law can't go on. Whatever else it raises
        is a defect, which ends the process.
        """

    def control(self, control: Control) -> str | None:
        """Apply a control record; returns None, or why it is refused (then a dead letter)."""

    def changed(self, rows: StateRows) -> None:
        """Write the rows changed since the last call into `rows`, which come empty."""

    def load(
        self,
        rows: Columns,
        lo: int,
        hi: int,
        buf: NDArray[np.uint8],
        key_pos: NDArray[np.int64],
        key_len: NDArray[np.int64],
        gone: NDArray[np.uint8],
    ) -> None:
        """Take in rows lo..hi-1 of the state topic, later ones replacing earlier ones.

        Spans and keys point into `buf`; `gone[k]` marks a tombstone.
        """

    def rows_all(self, rows: StateRows) -> None:
        """Write every row into `rows`, in any order: what a digest and a snapshot are made of."""

    def deadline(self) -> int | None:
        """Wall time, microseconds, from which a tick would change something; None: never."""

    def tenants(self) -> int:
        """How many tenants (or entities) the state holds."""


@runtime_checkable
class Telling(Protocol):
    """A fold that may take long for one record, and tells which."""

    def under_way(self) -> int:
        """The row that it is folding now; -1: none. Called from another thread."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy says of a candidate. `outcome` is one of OUTCOMES."""

    outcome: str
    leader: str = ""  # of an override; whether it is among the domains is the fold's to check
    rationale: str = ""  # at most RATIONALE_BYTES_MAX bytes; of an "error": what is wrong


class Policy(Protocol):
    """Who may veto. `digest` names it, `fail_open` included, in the epochs log.

    Embedded: a pure function. Remote: nobody here can decide; the fold says what it wants to know
    (`Asking`), and the answer comes as a control record.
    """

    @property
    def remote(self) -> bool: ...

    @property
    def fail_open(self) -> bool:
        """Whether an "error" counts as allow; else it counts as deny."""

    @property
    def digest(self) -> str: ...

    def decide(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        """The decision of an embedded policy; never raises. Not for remote ones (TypeError)."""


class UnderWay(NamedTuple):
    """A decision that an embedded policy hasn't come to yet."""

    tenant: str
    leader: str  # the candidate
    since: float  # time.monotonic()


@runtime_checkable
class LocalPolicy(Policy, Protocol):
    """A policy that decides in the thread of the fold, for as long as it takes."""

    def under_way(self) -> list[UnderWay]:
        """What it is deciding now; called from other threads."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a remote policy is asked. `id` is the frame_id of the frame that says pending."""

    id: str
    tenant: str
    leader: str
    weights: Mapping[str, float]


@runtime_checkable
class RemotePolicy(Policy, Protocol):
    """A policy that the engine asks, outside the folds."""

    async def ask(self, question: Question) -> Decision:
        """The answer, in bounded time; an "error" where there is none. Never raises."""

    async def close(self) -> None:
        """Let the connections go."""


@runtime_checkable
class Asking(Protocol):
    """A fold that asks a remote policy."""

    def questions(self) -> list[Question]:
        """Those that aren't answered yet, oldest first; after a recovery too.

        All of them, or at least the oldest 64: no more are asked at a time. Called after each fold
        of a batch, so it should be quick where nothing is pending. Without a remote policy (there
        was one when the state was written) nobody answers: then nothing may stay pending.
        """


@runtime_checkable
class Counting(Protocol):
    """A fold that counts what it did, for metrics: `Processor.tallies` declares them."""

    def counted(self) -> Mapping[str, int]:
        """Counts since the last call, by a tally's name, or "name:label value" if it has a label.

        Called after each fold of a batch; counted once that is committed, never before.
        """


@dataclass(frozen=True, slots=True)
class Tally:
    """A counter of a processor, as Prometheus shows it: `soma_veto_total`, its help, its label.

    With `recent`, a gauge instead: the part that each label value has of about so many counted
    last, in this process; the label value "" counts as everybody's, and isn't shown.
    """

    name: str
    help: str
    label: str = ""
    recent: int = 0


@dataclass(frozen=True, slots=True)
class Context:
    """What a fold gets at birth: its place, and the deployment's values, as in the epochs log."""

    place: Place
    defaults: Mapping[str, str]
    policy: Policy | None = None
    partitions: int = 1  # of every topic


@dataclass(frozen=True, slots=True)
class Processor:
    """A stream processor. Everything here but `make` is plain data."""

    name: str
    source: str  # topic, without namespace
    sinks: tuple[str, ...]  # topics; their schema stands in the catalogue
    state_schema: str  # schema of a state row
    law: int  # version of the law: goes up whenever a fold would give other bytes
    settings: Mapping[str, Setting]  # by name: what the deployment and control records may set
    make: Callable[[Context], Fold]
    # The processor's own reasons of dead letters -> what each says of a record.
    reasons: Mapping[str, str] = field(default_factory=dict)
    sink_src: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # sink -> Layout src
    # Sinks that it writes other records to than the catalogue says: control records.
    sink_schemas: Mapping[str, str] = field(default_factory=dict)
    state_src: Mapping[str, int] = field(default_factory=dict)
    policy: "Callable[[Settings], Policy | None] | None" = None  # made once per process
    tallies: tuple[Tally, ...] = ()
    reads: Reads = field(default_factory=Reads)
    kinds: Mapping[str, Reads] = field(default_factory=dict)  # further schemas of the source
    in_loop: bool = True  # whether it folds a few records in so little time that no thread is worth

    @property
    def state_topic(self) -> str:
        """Name of the compacted topic that holds this processor's state, without namespace."""
        return f"soma.{self.name}.state"
