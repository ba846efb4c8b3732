"""What the predictors ask of the processor sleep, as records of its topic.

**Traffic wakes.** The first observation of a tenant whose sleep may be ended by one ends it here at
once: it is predicted, and what comes of it is written, as of whoever is awake. One request says so,
with the version of that sleep; its id is that of the observation. As the sleep is gone from the
tenant's row, no later observation asks again, after a restart neither; and as the request is of one
version, it can't end a sleep that began meanwhile. The answer comes in band: a state of a later
version, that the tenant is awake, or sleeps anew.

**Whoever is silent sleeps.** The first tick that is `sleep_after_s` or more behind the last
observation of an awake tenant has the policy ask that it sleep lightly. Until the answer it has a
sleep of version 0 here, which says that it was asked, once, and does nothing: the next observation
takes it away without a word. Whoever is woken otherwise, by an operator say, is as one who was
seen then: its silence begins anew. When the last domain of a tenant whom traffic would wake is
forgotten, the policy asks to wake it, which it may where it put it to sleep: nobody stays for ever.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.engine.processor import Control, Output
from agents.kit.asleep import ACTIVE, LIGHT, STATES, number, traffic_wakes, version_of
from agents.kit.batches import Source
from agents.kit.packing import Ints
from agents.kit.store import Store
from agents.kit.tenant_settings import AWAKE
from agents.predictors.settings import SLEEP_AFTER

ACTOR = "predictors"
TRAFFIC, POLICY = "traffic", "policy"
ASKED = float(number(LIGHT, 0, wakes=True))
ASKED_MAX = 10_000  # tenants put to sleep by a tick; the others' turn is the next one
NO_RECORD = -1  # the cause of what a tick's call writes


class Wish(NamedTuple):
    """A request to be written."""

    tenant: str
    offset: int  # of the record that it comes from
    cause: int  # that record's row in the batch
    log_ms: int
    kind: str
    target: int
    version: int = 0


def wake(store: Store, source: Source, records: Ints, ids: Ints) -> list[Wish]:
    """Let those be awake from here on whom one of these records wakes: what is asked of it.

    ids[r] is the row of record r's domain.
    """
    assert store.domains is not None
    owners = store.domains.rows["owner"][ids[records]]
    how = store.settings.table[store.tenants.rows["settings"][owners], -1]
    asleep = np.flatnonzero(how != AWAKE)
    _, first = np.unique(owners[asleep], return_index=True)
    found = []
    for k in asleep[np.sort(first)].tolist():
        if traffic_wakes(how[k]):
            tenant, r = _name(store, owners[k]), int(records[k])
            offset, log_ms = int(source.offsets[r]), int(source.log_ms[r])
            store.let_sleep(tenant, AWAKE, log_ms)
            if version := version_of(how[k]):
                found.append(Wish(tenant, offset, r, log_ms, TRAFFIC, ACTIVE, version))
    return found


def _how(store: Store) -> NDArray[np.float64]:
    """How each tenant's row sleeps: `asleep.number`."""
    how: NDArray[np.float64] = store.settings.table[store.tenants.rows["settings"], -1]
    return how


def _name(store: Store, of: int) -> str:
    return store.text(int(store.tenants.rows["code"][of]))


def idle(store: Store) -> tuple[NDArray[np.float64], Ints]:
    """When awake tenants are to sleep, wall time in microseconds; and their rows."""
    after = store.settings.table[:, SLEEP_AFTER]
    if store.domains is None or not after.any():
        return np.empty(0), np.empty(0, np.int64)
    tenants, domains = store.tenants.rows, store.domains.rows
    after = after[tenants["settings"]]
    of = np.flatnonzero((tenants["domains"] > 0) & (after > 0.0) & (_how(store) == AWAKE))
    last, living = np.zeros(tenants.shape[0], np.int64), domains["code"] >= 0
    np.maximum.at(last, domains["owner"][living], domains["touched"][living])
    return last[of] * 1e3 + after[of] * 1e6, of


def woken(store: Store, tenant: str, log_ms: int) -> None:
    """Let a tenant's silence begin anew: it was woken, and not by what it does itself."""
    assert store.domains is not None
    owner, rows = store.tenants.of[store.code(tenant.encode())], store.domains.rows
    for of in np.flatnonzero((rows["code"] >= 0) & (rows["owner"] == owner)).tolist():
        rows["touched"][of] = max(int(rows["touched"][of]), log_ms)
        store.mark(int(rows["code"][of]))


def put_to_sleep(store: Store, tick: Control) -> list[Wish]:
    """Ask for the sleep of those who have been silent for so long, who was so first at first."""
    due, of = idle(store)
    late = np.flatnonzero(due <= tick.ts)
    if late.shape[0] > ASKED_MAX:
        late = late[due[late] <= np.partition(due[late], ASKED_MAX - 1)[ASKED_MAX - 1]]
    each = sorted((float(due[k]), _name(store, of[k])) for k in late.tolist())
    for _, tenant in each[:ASKED_MAX]:
        store.let_sleep(tenant, ASKED, tick.log_ms)
    return [_asked(tenant, tick, LIGHT) for _, tenant in each[:ASKED_MAX]]


def sleepers(store: Store) -> Ints:
    """The rows of tenants with domains whom traffic wakes. They stay theirs for a tick."""
    how = _how(store)
    asleep = np.flatnonzero((how != AWAKE) & (store.tenants.rows["domains"] > 0))
    return asleep[[traffic_wakes(one) for one in how[asleep].tolist()]]


def let_go(store: Store, were: Ints, tick: Control) -> list[Wish]:
    """Ask for the waking of those of `sleepers` who have no domains any more."""
    gone = were[store.tenants.rows["domains"][were] == 0]
    names = sorted(_name(store, of) for of in gone.tolist())
    for tenant in names:
        if store.settings.sleep_of(tenant) == ASKED:
            store.let_sleep(tenant, AWAKE, tick.log_ms)
    return [_asked(tenant, tick, ACTIVE) for tenant in names]


def _asked(tenant: str, tick: Control, target: int) -> Wish:
    return Wish(tenant, tick.offset, NO_RECORD, tick.log_ms, POLICY, target)


def tell(output: Output, wishes: Sequence[Wish], prefix: str) -> None:
    """Write these requests; `prefix` stands before the offset in an id."""
    for wish in wishes:
        output.reserve(1)
        output.columns.put(
            output.n,
            {
                "request_id": f"{prefix}{wish.offset}", "tenant": wish.tenant,
                "target": STATES[wish.target], "kind": wish.kind, "ttl_seconds": None,
                "wake_on_traffic": False, "version": wish.version, "trace_id": None,
                "actor": ACTOR, "ts": wish.log_ms * 1000,
            },
            output.scratch,
        )  # fmt: skip
        output.cause[output.n] = wish.cause
        output.own.append((wish.tenant.encode(), -1))
        output.n += 1
