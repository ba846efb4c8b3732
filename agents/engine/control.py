"""Control records: how settings and ticks reach a fold, in band and in order."""

from agents.engine.plan import Plan
from agents.engine.processor import Control, Place
from topics import codec
from topics.partition import partition_of

EVERYONE = "*"


def read_control(
    value: bytes, plan: Plan, place: Place, offset: int, log_ms: int
) -> tuple[Control | None, str | None]:
    """A control record from its wire bytes, or None and why it is refused."""
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        return None, error.detail
    if name == "control_tick":
        return Control("tick", EVERYONE, "", "", int(record["ts"]), offset, log_ms), None
    if name != "control_setting":
        return None, f"{name} is not a control record of this version"
    tenant = str(record["tenant"])
    if tenant != EVERYONE and partition_of(tenant, plan.partitions) != place.partition:
        return (
            None,
            f"tenant {tenant[:128]!r} lives in partition {partition_of(tenant, plan.partitions)}",
        )
    setting, text = str(record["setting"]), str(record["value"])
    return Control("setting", tenant, setting, text, int(record["ts"]), offset, log_ms), None
