"""Control records: how settings and ticks reach a fold, in band and in order.

Users can write to some inputs, so a control record is checked like any other: its tenant becomes a
key of the state, and a tick from the future would make a fold forget what is alive.
"""

import re

from agents.engine.checks import NAME_MAX, TS_AHEAD
from agents.engine.plan import Plan
from agents.engine.processor import Control, Place
from topics import codec
from topics.partition import partition_of

EVERYONE = "*"
_TENANT = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_MAX}}}")


def read_control(
    value: bytes, plan: Plan, place: Place, offset: int, log_ms: int
) -> tuple[Control | None, str | None]:
    """A control record from its wire bytes, or None and why it is refused."""
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        return None, error.detail
    ts = int(record["ts"]) if "ts" in record else 0
    if name == "control_tick":
        if ts > log_ms * 1000 + TS_AHEAD:
            return None, "ts: more than an hour ahead of the log's time"
        return Control("tick", EVERYONE, "", "", ts, offset, log_ms), None
    if name != "control_setting":
        return None, f"{name} is not a control record of this version"
    tenant = str(record["tenant"])
    if refusal := _refusal(tenant, plan.partitions, place.partition):
        return None, refusal
    setting, text = str(record["setting"]), str(record["value"])
    return Control("setting", tenant, setting, text, ts, offset, log_ms), None


def _refusal(tenant: str, partitions: int, partition: int) -> str | None:
    """Why a tenant can't be given a setting here."""
    if tenant == EVERYONE:
        return None
    if not _TENANT.fullmatch(tenant):
        return f"tenant: '*', or 1-{NAME_MAX} of [A-Za-z0-9._-]"
    home = partition_of(tenant, partitions)
    return None if home == partition else f"tenant {tenant!r} lives in partition {home}"
