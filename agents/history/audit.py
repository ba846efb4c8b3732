"""Live = rebuilt: a partition's state as its topic has it, beside the same folded anew."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agents.engine.plan import Plan
from agents.engine.position import Position
from agents.history.errors import HistoryError
from agents.history.outputs import Gathered
from agents.history.published import looked_for
from agents.history.rows import Differing, Digest, by_tenant, differing
from agents.history.states import Past, State, current
from agents.settings import Settings


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A state folded anew up to where the live one was."""

    digest: Digest
    of: str  # what the fold began with
    begun: int
    records: int  # read, those of other tenants too
    seconds: float
    differing: list[Differing]
    notes: list[str]
    # Topic -> how many outputs the fold gives, and how many of them were published just so.
    outputs: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audited:
    """A partition's rows, of one tenant or all, as digests; and, where asked for, folded anew."""

    partition: int
    position: Position | None  # None: nothing has been folded yet
    tenants: dict[str, Digest] = field(default_factory=dict)
    rebuilt: Rebuilt | None = None

    @property
    def digest(self) -> Digest:
        """Of all these rows."""
        total = Digest()
        for one in self.tenants.values():
            total.join(one)
        return total


def digest_of(settings: Settings, plan: Plan, partition: int, tenant: str = "") -> Audited:
    """The state as its topic has it now. HistoryError, KafkaException."""
    state = current(settings, plan, partition, tenant)
    return Audited(partition, state.position, by_tenant(state.rows))


def audit(
    settings: Settings, plan: Plan, partition: int, tenant: str, newest: bool,
    told: Callable[[Past], None], outputs: bool = False,
) -> Audited:  # fmt: skip
    """The same, folded anew up to its position and compared.

    `newest`: from the newest snapshot; else as early as the log allows. `told` is called while it
    goes on. `outputs`: what it gives is compared with what was published, too. HistoryError,
    BrokerError, KafkaException.
    """
    state = current(settings, plan, partition, tenant)
    gathered = Gathered(plan) if outputs else None

    def on() -> None:
        if gathered is not None:
            gathered.add(past.folding.heard())
        told(past)

    past = Past(settings, plan, partition, tenant, told=on)
    rebuilt = _rebuilt(past, state, newest, outputs)
    if rebuilt is not None and gathered is not None:
        for place, expected in gathered.places:
            for _ in looked_for(settings, place, 0, expected):
                told(past)
        rebuilt.outputs.update(gathered.counts())
    return Audited(partition, state.position, by_tenant(state.rows), rebuilt)


def _rebuilt(past: Past, state: State, newest: bool, outputs: bool) -> Rebuilt | None:
    if state.position is None:
        if past.epochs:
            text = "the epochs log says it was worked on, yet its state topic has no position"
            raise HistoryError(f"{past.where}: state_lost: {text}")
        return None
    if state.position.topic_id != past.source.topic_id:
        raise HistoryError(f"{past.where}: the topic was made anew since its state was written")
    began = time.monotonic()
    of = past.start(state.position.next_offset, newest)
    if outputs:
        past.folding.heard()  # from now on
    past.fold_to(state.position.next_offset)
    rows = past.rows()
    seconds = time.monotonic() - began
    unlike = differing(state.rows, rows)
    notes = [*past.notes, *(past.asides if unlike else ())]
    return Rebuilt(Digest(rows), of, past.begun, past.records, seconds, unlike, notes)
