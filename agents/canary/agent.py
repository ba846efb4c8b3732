"""soma.admin.canary -> cog.config.updates and soma.audit: a setting tried on some tenants.

A canary's setting stands where other processors have a tenant, so that it has one at a time, and
one owner decides about it, wherever its tenants live. The service (service.py) measures; what it
found comes in the same topic as commands do, block by block, and the row here keeps the sums. First
the groups are measured as they are; then the setting is put on, by changes as `soma config set`
says them. Where it harms, when its time is over, or when somebody says so, they are taken back.
"""

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from agents.canary import law
from agents.canary.law import COUNTED, METRICS, Apart
from agents.canary.state import (
    ACTIVE,
    BEFORE,
    BETTER,
    EXPIRED,
    FOR_S,
    MEASURING,
    PROMOTED,
    RUNNING,
    STOPPED,
    TENANTS_MAX,
    WORSE,
    Canary,
    numbers,
    quantum,
    sums,
)
from agents.engine.answer import Answer
from agents.engine.reasons import CONTROL_REFUSED, NAMES
from agents.kit import Emit, Reads, Refuse, RowProcessor
from agents.kit.setting import EVERYONE, SHOWN, of_tenant, parse

if TYPE_CHECKING:
    from agents.engine.dead_letters import Letter

COMMANDS, UPDATES, AUDIT = "soma.admin.canary", "cog.config.updates", "soma.audit"
STATE = "soma.canary.state"
COMMAND_SCHEMA, BLOCK_SCHEMA = "canary_command", "canary_block"
FRAMES, SEGMENTS = "cog.global.frame", "cog.segments"  # what the service measures
START, STOP, PROMOTE = "start", "stop", "promote"
REFUSED, PUT_ON = "refused", "put_on"
SEP = "\x1f"
VALUE_BYTES = 4096
OFF = (
    "cognition is off here: SOMA_ENABLE_COG_THREADS=1 (or `soma config set SETTING cognition on "
    "--processor canary`) switches it on"
)
ROLLED_BACK = "soma_canary_rolled_back_total"


def command(row: Canary, record: Any, out: Emit) -> None:
    """Begin a canary, end it, or make what it tries everybody's; or say why not."""
    if (why := _refusal(row, record)) is not None:
        _audit(record.id, record.actor, REFUSED, record.log_ms, {"why": why}, out)
        if not row.id:
            out.forget()
    elif record.type == START:
        _start(row, record)
        said = {"tenants": len(row.tenants), "control": len(row.control), "value": row.value}
        _audit(row.id, row.actor, row.state, record.log_ms, said, out)
    else:
        if record.type == PROMOTE:
            _change(row, EVERYONE, row.value, None, record.log_ms, out)
        _end(row, PROMOTED if record.type == PROMOTE else STOPPED, record.log_ms, out)
        _audit(row.id, record.actor, row.state, record.log_ms, {"why": row.why}, out)


def _refusal(row: Canary, record: Any) -> str | None:
    if record.type == START:
        if row.state in ACTIVE:
            return f"there is a canary on {record.name} already: {row.id}"
        return _unfit(record)
    if record.type not in (STOP, PROMOTE):
        return f"there is no type {record.type[:SHOWN]!r}; there are start, stop, promote"
    if row.state not in ACTIVE or record.id != row.id:
        return f"no canary {record.id[:SHOWN]!r} runs on {record.name}"
    if record.type == PROMOTE and not row.put_on:
        return "it isn't put on yet: nobody knows what it does"
    return None


def _unfit(record: Any) -> str | None:
    """Why a start can't be made."""
    tenants, control = record.tenants, record.control
    if not record.value:
        return "it has no value to try"
    try:
        _check(record)
    except ValueError as error:
        return str(error)
    if not tenants:
        return "it has no tenants to try it on"
    if not control:
        return "it has no control group: nobody is left to compare with"
    if max(len(tenants), len(control)) > TENANTS_MAX:
        return f"a group has at most {TENANTS_MAX} tenants"
    if len({*tenants, *control}) < len(tenants) + len(control):
        return "a tenant is named twice"
    if not FOR_S[0] <= record.for_s <= FOR_S[1]:
        return f"for_s: from {FOR_S[0]} to {FOR_S[1]}, not {record.for_s}"
    return None


def _check(record: Any) -> None:
    """The value, by the declaration of the setting. ValueError says what is wrong."""
    from agents.settings.reading import declared  # when there is something to check

    processor, _, setting = record.name.partition(".")
    known = declared()
    if processor not in known:
        raise ValueError(f"no processor {processor[:SHOWN]!r}; there are {', '.join(known)}")
    name = _with_domain(setting, record.domain)
    of_tenant(known[processor], name)
    parse(known[processor], name, record.value)


def _with_domain(setting: str, domain: str) -> str:
    return f"{setting}@{domain}" if domain else setting


def _start(row: Canary, record: Any) -> None:
    fresh = Canary(
        record.id, MEASURING, _with_domain(record.name.partition(".")[2], record.domain),
        record.value, list(record.tenants), list(record.control), record.actor,
        record.log_ms * 1000, due=(record.log_ms + record.for_s * 1000) * 1000,
        most=[0.0] * len(METRICS), canary=[0.0] * len(METRICS), others=[0.0] * len(METRICS),
    )  # fmt: skip
    for name in Canary.__slots__:
        setattr(row, name, getattr(fresh, name))


def measure(row: Canary, record: Any, out: Emit) -> None:
    """Take in blocks that are new, and decide."""
    before = record.before
    if not _whole(record):
        raise Refuse("its lists aren't of each metric, or have what is no number")
    if record.id != row.id or record.first <= row.block or row.state not in ACTIVE:
        return  # of one that is over, or told twice
    if before != (row.state == MEASURING):
        return
    known, width = sums(row.before if before else row.after), len(METRICS)
    for k, one in enumerate(record.differences):
        known[k % width].add(one)
    row.block = record.last
    if before:
        row.before, row.first, row.last_before = numbers(known), record.first, record.last
        if known[0].n >= BEFORE:
            _put_on(row, record.log_ms, out)
        return
    row.after = numbers(known)
    count = len(record.differences) // width
    row.canary = [a + b * count for a, b in zip(row.canary, record.canary, strict=True)]
    row.others = [a + b * count for a, b in zip(row.others, record.control, strict=True)]
    _decide(row, record, out)


def _whole(record: Any) -> bool:
    """Whether all its lists are as they must be."""
    each = (record.canary, record.control, record.spread)
    numbers = [number for one in (record.differences, *each) for number in one]
    sizes = {len(one) for one in each} == {len(METRICS)}
    return sizes and not len(record.differences) % len(METRICS) and all(map(isfinite, numbers))


def _put_on(row: Canary, log_ms: int, out: Emit) -> None:
    for tenant in row.tenants:
        _change(row, tenant, row.value, "", log_ms, out)
    row.state, row.put_on = RUNNING, log_ms * 1000
    said = {"value": row.value, "tenants": row.tenants}
    _audit(row.id, row.actor, PUT_ON, log_ms, said, out)


def _decide(row: Canary, record: Any, out: Emit) -> None:
    """Look at the evidence of each metric: take the setting back, or say that it helps."""
    better, log_ms = "", record.log_ms
    pairs = zip(METRICS, sums(row.before), sums(row.after), strict=True)
    for k, (metric, before, after) in enumerate(pairs):
        step = quantum(row) if metric in COUNTED else 0.0
        apart = Apart(record.spread[k], record.freedom)
        evidence = law.evidence(before, after, step, apart)
        row.most[k] = max(row.most[k], evidence)
        found = law.verdict(evidence, before, after)
        if found:
            much = after.mean - before.mean
            said = f"{metric} is {found} by {abs(much):.3g}, p = {law.p_value(row.most[k]):.2g}"
            if found == law.WORSE:
                row.why = said
                _end(row, WORSE, log_ms, out)
                out.count(ROLLED_BACK)
                _audit(row.id, "canary", WORSE, log_ms, {"why": said}, out)
                return
            better = said
    if better and row.state == RUNNING:
        row.state, row.why = BETTER, better
        _audit(row.id, "canary", BETTER, log_ms, {"why": better}, out)


def _end(row: Canary, state: str, log_ms: int, out: Emit) -> None:
    """Take the setting back where it was put on, and is still what it was put on as."""
    for tenant in row.tenants if row.put_on else ():
        _change(row, tenant, "", row.value, log_ms, out)
    row.state, row.ended, row.due = state, log_ms * 1000, None


def _change(
    row: Canary, tenant: str, value: str, expected: str | None, log_ms: int, out: Emit
) -> None:
    """Say a change of the setting to control."""
    processor = out.tenant.partition(".")[0]
    out.to(UPDATES, {
        "tenant": tenant, "setting": row.setting, "value": value, "author": f"canary:{row.id}",
        "ts": log_ms * 1000, "processor": processor, "expected_version": None,
        "expected_value": expected,
    }, key=f"{tenant}{SEP}{processor}.{row.setting}", whose=tenant)  # fmt: skip


def over(row: Canary, now: int, out: Emit) -> None:
    """The timer's call: it has lasted as long as it may, and nothing was found."""
    row.why = row.why or "no difference was found"
    _end(row, EXPIRED, now // 1000, out)
    _audit(row.id, "canary", EXPIRED, now // 1000, {"why": row.why}, out)


def stay(row: Canary, record: Any, out: Emit) -> bool:
    """Where cognition is off none begins; one that runs goes on, and can be ended."""
    if getattr(record, "type", "") != START:
        (command if hasattr(record, "type") else measure)(row, record, out)
        return True
    _audit(record.id, record.actor, REFUSED, record.log_ms, {"why": OFF}, out)
    if not row.id:
        out.forget()
    return False


def _audit(
    id_: str, actor: str, state: str, log_ms: int, more: dict[str, Any], out: Emit
) -> None:  # fmt: skip
    """Say on soma.audit what became of a canary."""
    detail = {"id": id_, "setting": out.tenant, "state": state} | more
    out.to(AUDIT, {
        "ts": log_ms * 1000, "actor": actor, "action": f"canary.{state}", "subject": out.tenant,
        "tenant": "", "detail": json.dumps(detail),
    }, key=out.tenant)  # fmt: skip


def unread(letter: "Letter") -> Answer | None:
    """Say of what is no command that it was refused."""
    if letter.reason == NAMES[CONTROL_REFUSED]:
        return None  # a setting
    detail = {"id": "", "state": REFUSED, "why": f"{letter.reason}: {letter.detail}"}
    return Answer(AUDIT, letter.origin.encode(), {
        "ts": letter.log_ms * 1000, "actor": "", "action": f"canary.{REFUSED}",
        "subject": COMMANDS, "tenant": "", "detail": json.dumps(detail),
    })  # fmt: skip


PROCESSOR = RowProcessor(
    "canary", source=COMMANDS, sinks=(UPDATES, AUDIT), row=Canary,
    folds={COMMAND_SCHEMA: command, BLOCK_SCHEMA: measure}, on_time=over, unread=unread, off=stay,
    reads={
        COMMAND_SCHEMA: Reads(
            tenant="name", domain=None, ts=None, strings={"value": VALUE_BYTES}
        ),
        BLOCK_SCHEMA: Reads(tenant="name", domain=None, ts=None),
    },
    counts={ROLLED_BACK: "Canaries whose setting was taken back, for it did harm."},
)  # fmt: skip
