"""Control records: how settings, ticks and a policy's answers reach a fold, in band and in order.

Users can write to some inputs, so a control record is checked like any other: its tenant becomes a
key of the state, a tick from the future would make a fold forget what is alive, and an answer's
texts go into frames. What can't be told here is who wrote it: that is the topic's ACL.
"""

import json
import re
from typing import Any

from agents.engine.checks import NAME_MAX, TS_AHEAD
from agents.engine.plan import Plan
from agents.engine.processor import OUTCOMES, RATIONALE_BYTES_MAX, Control, Place
from agents.kit.asleep import NUMBER_MAX, STATES, number
from topics import codec
from topics.catalogue import CATALOGUE
from topics.partition import partition_of

EVERYONE = "*"
FOR_ALL = ("control_tick", "control_sleep")  # that read the source, not for one of them
VERSION_MAX = NUMBER_MAX // 16
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_MAX}}}")
_OFFSET = re.compile(r"0|[1-9][0-9]{0,18}")

Read = tuple[Control | None, str | None]


def read_control(value: bytes, plan: Plan, place: Place, offset: int, log_ms: int) -> Read:
    """A control record from its wire bytes, or None and why it is refused.

    None and no refusal where it is meant for another processor of the source: one that it names,
    or the source's keeper where it names none.
    """
    try:
        name, record = codec.decode(value)
    except codec.BadRecord as error:
        return None, error.detail if plan.keeper else None
    named, ours = str(record.get("processor", "")), plan.processor.name
    if name not in FOR_ALL and not (named == ours or (plan.keeper and not named)):
        known = CATALOGUE[plan.processor.source].readers
        lost = plan.keeper and named not in known
        return None, f"no processor {named[:60]!r} reads {plan.source}" if lost else None
    ts = int(record["ts"]) if "ts" in record else 0
    if name == "control_tick":
        if ts > log_ms * 1000 + TS_AHEAD:
            return None, "ts: more than an hour ahead of the log's time"
        return Control("tick", EVERYONE, "", "", ts, offset, log_ms), None
    if name not in ("control_setting", "control_answer", "control_sleep"):
        return None, f"{name} is not a control record of this version"
    tenant = str(record["tenant"])
    if refusal := _refusal(tenant, plan.partitions, place.partition):
        return None, refusal
    if name == "control_answer":
        return _answer(record, place, offset, log_ms)
    if name == "control_sleep":
        return _sleep(record, offset, log_ms)
    setting, text = str(record["setting"]), str(record["value"])
    version = int(record.get("version", 0))
    return Control("setting", tenant, setting, text, ts, offset, log_ms, version), None


def _refusal(tenant: str, partitions: int, partition: int) -> str | None:
    """Why a tenant can't be meant here."""
    if tenant == EVERYONE:
        return None
    if not _NAME.fullmatch(tenant):
        return f"tenant: '*', or 1-{NAME_MAX} of [A-Za-z0-9._-]"
    home = partition_of(tenant, partitions)
    return None if home == partition else f"tenant {tenant!r} lives in partition {home}"


def _sleep(record: dict[str, Any], offset: int, log_ms: int) -> Read:
    """How deep a tenant sleeps from here on."""
    tenant, state, version = str(record["tenant"]), str(record["state"]), int(record["version"])
    if tenant == EVERYONE:
        return None, "tenant: a sleep is of one tenant, not of '*'"
    if state not in STATES:
        return None, f"state: one of {', '.join(STATES)}, not {state[:40]!r}"
    if not 0 < version <= VERSION_MAX:
        return None, f"version: from 1 to {VERSION_MAX}, not {version}"
    how = number(STATES.index(state), version, bool(record["wake_on_traffic"]))
    return Control("sleep", tenant, state, str(how), log_ms * 1000, offset, log_ms), None


def _answer(record: dict[str, Any], place: Place, offset: int, log_ms: int) -> Read:
    """A remote policy's answer to the question that an earlier record of this partition asked."""
    asked, outcome = str(record["id"]), str(record["outcome"])
    leader, rationale = str(record["leader"]), str(record["rationale"])
    prefix = place.prefix.decode()
    number = asked.removeprefix(prefix)
    refusal = None
    if record["tenant"] == EVERYONE:
        refusal = "tenant: a question is of one tenant, not of '*'"
    elif not (asked.startswith(prefix) and _OFFSET.fullmatch(number) and int(number) < offset):
        refusal = f"id: {asked[:60]!r} is no frame_id of an earlier record here ({prefix}…)"
    elif outcome not in OUTCOMES:
        refusal = f"outcome: one of {', '.join(OUTCOMES)}, not {outcome[:40]!r}"
    elif (outcome == "override") != bool(leader):
        refusal = "leader: an override names one, and nothing else does"
    elif leader and not _NAME.fullmatch(leader):
        refusal = f"leader: 1-{NAME_MAX} of [A-Za-z0-9._-]"
    elif len(rationale.encode()) > RATIONALE_BYTES_MAX:
        refusal = f"rationale: more than {RATIONALE_BYTES_MAX} bytes"
    if refusal is not None:
        return None, refusal
    value = json.dumps({"id": asked, "leader": leader, "rationale": rationale})
    # The answerer's clock is for people: were it an hour off, no answer would ever count.
    ts = log_ms * 1000
    return Control("answer", str(record["tenant"]), outcome, value, ts, offset, log_ms), None
