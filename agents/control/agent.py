"""cog.config.updates -> the inputs of the processors whose settings they are, and soma.audit.

What a setting is to be is checked by its one declaration, and gets a version. Then it goes as a
control record into the input of its processor: into the tenant's partition or, for the tenant '*',
into each. There it acts at its own offset, the same for every replay. What was done, and what was
refused and why, stands in soma.audit. A policy that may veto leaders is such a setting, too: its
Rego is compiled and tried out first, in a child. Which settings there are is this version's: a fold
anew under another may refuse what was taken, or take it.
"""

import json
from typing import TYPE_CHECKING, Any

from agents.control.law import Config, checked, declared, is_policy, make
from agents.control.vetting import vetted
from agents.engine.answer import Answer
from agents.engine.reasons import CONTROL_REFUSED, NAMES
from agents.kit import Emit, Reads, RowProcessor
from agents.kit.setting import EVERYONE
from agents.policy import bundle
from topics.catalogue import sources

if TYPE_CHECKING:
    from agents.engine.dead_letters import Letter

UPDATES = "cog.config.updates"
AUDIT = "soma.audit"
CONTROL_SCHEMA = "control_setting"
SET, REFUSED = "config.set", "config.refused"  # actions of the audit
INPUTS = {name: topic for name, topic in sources().items() if topic != UPDATES}
VALUE_BYTES = bundle.BYTES_MAX + 1024  # more than a policy may have: that is told on the audit
WHY_MAX = 1000  # characters of a reason
CHANGES, REFUSALS = "soma_config_changes_total", "soma_config_refused_total"


def settle(row: Config, update: Any, out: Emit) -> None:
    """Make a change of a setting, or say why not."""
    policy = is_policy(update)
    try:
        owner = checked(declared(), row, update)
        value = vetted(update.value) if policy else update.value
    except ValueError as error:
        _audit(update, REFUSED, {"why": str(error)[:WHY_MAX]}, out)
        out.count(REFUSALS)
        if not row.version:
            out.forget()
        return
    one = make(row, owner, update, bundle.digest(value) if policy else None)
    if policy:
        row.policy = value
    record = {
        "tenant": update.tenant, "setting": update.setting, "value": value,
        "author": update.author, "ts": update.ts, "processor": owner, "version": one.version,
        "update": update.source_id,
    }  # fmt: skip
    if update.tenant == EVERYONE:
        out.everywhere(INPUTS[owner], record)
    else:
        out.to(INPUTS[owner], record)
    _audit(update, SET, {"version": one.version, "processor": owner, "was": one.was}, out)
    out.count(CHANGES)


def _audit(update: Any, action: str, more: dict[str, Any], out: Emit) -> None:
    """Say on soma.audit what became of a change; of a policy its digest, for the text is long."""
    value = bundle.digest(update.value) if is_policy(update) else update.value
    detail = {"update": update.source_id, "setting": update.setting, "value": value} | more
    out.to(AUDIT, {
        "ts": update.log_ms * 1000, "actor": update.author, "action": action,
        "subject": update.tenant, "tenant": update.tenant, "detail": json.dumps(detail),
    })  # fmt: skip


def unread(letter: "Letter") -> Answer | None:
    """Say of what is no change at all that it was refused."""
    if letter.reason == NAMES[CONTROL_REFUSED]:
        return None  # a setting of this processor's own
    detail = {"update": letter.origin, "why": f"{letter.reason}: {letter.detail}"}
    return Answer(AUDIT, letter.origin.encode(), {
        "ts": letter.log_ms * 1000, "actor": "", "action": REFUSED, "subject": UPDATES,
        "tenant": "", "detail": json.dumps(detail),
    })  # fmt: skip


def kept(row: Config, now: int, out: Emit) -> None:
    """Its timer never comes."""


PROCESSOR = RowProcessor(
    "control", source=UPDATES, sinks=(AUDIT, *sorted(set(INPUTS.values()))), row=Config,
    fold=settle, on_time=kept, unread=unread,
    law=2,  # 1: people's changes made room for learned ones
    controls=dict.fromkeys(INPUTS.values(), CONTROL_SCHEMA),
    reads=Reads(domain=None, ts=None, strings={"value": VALUE_BYTES}, of_settings=True),
    counts={
        CHANGES: "Changes of settings made.",
        REFUSALS: "Changes of settings refused; soma.audit says why.",
    },
)  # fmt: skip
