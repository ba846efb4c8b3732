"""What the predictors ask of the processor sleep, as records of its topic.

**Traffic wakes.** The first observation of a tenant whose sleep may be ended by one ends it here at
once: it is predicted, and what comes of it is written, as of whoever is awake. One request says so,
with the version of that sleep; its id is that of the observation. As the sleep is gone from the
tenant's row, no later observation asks again, after a restart neither; and as the request is of one
version, it can't end a sleep that began meanwhile. The answer comes in band: a state of a later
version, that the tenant is awake, or sleeps anew.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from agents.engine.processor import Output
from agents.kit.asleep import ACTIVE, STATES, traffic_wakes, version_of
from agents.kit.batches import Source
from agents.kit.packing import Ints
from agents.kit.store import Store
from agents.kit.tenant_settings import AWAKE

ACTOR = "predictors"
TRAFFIC = "traffic"


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
            tenant = store.text(int(store.tenants.rows["code"][owners[k]]))
            r, log_ms = int(records[k]), int(source.log_ms[records[k]])
            store.let_sleep(tenant, AWAKE, log_ms)
            offset, version = int(source.offsets[r]), version_of(how[k])
            found.append(Wish(tenant, offset, r, log_ms, TRAFFIC, ACTIVE, version))
    return found


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
        output.n += 1
