"""What a processor would make a dead letter of, told before it is sent, by its own checks.

Only what can be told of a record alone: not what depends on a tenant's settings or its state.
"""

import math
from collections.abc import Mapping
from typing import Any

from agents.kit.setting import EVERYONE
from agents.tools.mapping import DIM_MAX, NAME
from agents.tools.times import BadTimeError, Times, shown

TEXT_MAX = 1024  # bytes of other texts in what processors read
PROCESSED = ("observation", "predictor_update")
SETTINGS = "config_update"  # of a tenant, or of all


def unfit(schema: str, record: Mapping[str, Any]) -> str:
    """All that is wrong with a decoded record of a topic for users; empty if it will be folded."""
    names = ("tenant", "domain") if schema in PROCESSED else ("tenant",)
    found = [
        f"{name}: {shown(record[name])} isn't 1-128 of A-Za-z0-9._-"
        for name in names
        if name in record
        and not NAME.fullmatch(record[name])  # commands are of no tenant
        and not (schema == SETTINGS and record[name] == EVERYONE)
    ]
    if schema in PROCESSED:
        found += [
            f"{name}: more than {TEXT_MAX} bytes"
            for name, value in record.items()
            if name not in names and isinstance(value, str) and len(value.encode()) > TEXT_MAX
        ]
        found += _moment(record["ts"])
    if schema == "observation" and not 0 < len(record["vector"]) // 4 <= DIM_MAX:
        found.append(f"vector: {len(record['vector']) // 4} numbers; it has 1 to {DIM_MAX}")
    if schema == "predictor_update":
        error = record["error_metric"]
        if not (math.isfinite(error) and error >= 0):
            found.append(f"error_metric: {error} isn't a finite number from 0 on")
    return "; ".join(found)


def _moment(ts: int) -> list[str]:
    try:
        Times().checked(ts)
    except BadTimeError as error:
        return [f"ts: {error}"]
    return []
