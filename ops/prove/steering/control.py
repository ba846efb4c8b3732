"""The law of control, written again for the verifier: what is checked, which version it gets."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.prove import fuse, predict, segment
from ops.prove.law import Row
from ops.prove.overrides import EVERYBODY, choice
from ops.prove.rowlaw import HERE, At, Out, RowLaw
from ops.prove.steering.learning import FRAMES, LEARNER_KINDS, LESSON_KINDS, REWARDS
from ops.prove.vetoing import INSTEAD, NEVER, bundle, digest

UPDATES, AUDIT = "cog.config.updates", "soma.audit"
SET, REFUSED = "config.set", "config.refused"
NO_END = 1 << 62
KEPT = {"learner": 50, "": 100}  # changes of a tenant, by author; "": all others
POLICY = "policy"
PACKAGE = "package soma.policy.integrator"
MOST = {"margin": 1.0, "share": 1.0, "entropy_cap": 1.0}  # of those that the driver exceeds
BY_DOMAIN = {"integrator": ("prior",), "segmentation": tuple(set(segment.KINDS) - {"leader"})}
KINDS: Mapping[str, Mapping[str, Callable[[str], Any]]] = {
    "predictors": predict.KINDS, "integrator": fuse.KINDS, "segmentation": segment.KINDS,
    "lessons": LESSON_KINDS, "learner": LEARNER_KINDS,
    "canary": {"cognition": choice("off", "on")}, "sleep": {"cognition": choice("off", "on")},
}  # fmt: skip
INPUTS = {
    "predictors": "cog.observations", "integrator": fuse.Fusion.topic, "segmentation": FRAMES,
    "lessons": FRAMES, "learner": REWARDS, "canary": "soma.admin.canary",
    "sleep": "brain.sleep.requests",
}  # fmt: skip


@dataclass
class Config:
    """What a tenant, or '*', has set itself."""

    version: int = 0
    values: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    history: list[str] = field(default_factory=list)
    due: int | None = None
    policy: str = ""


def fits(update: Row, row: Config) -> bool:
    """Whether a change may be made."""
    owner, setting, text = update["processor"], update["setting"], update["value"]
    name, at, domain = setting.partition("@")
    if owner not in KINDS or (at and not (domain and name in BY_DOMAIN.get(owner, ()))):
        return False
    policy = owner == "integrator" and setting == POLICY
    if not policy and (name not in KINDS[owner] or not may_be(KINDS[owner][name], name, text)):
        return False
    rules = NEVER.search(text) or INSTEAD.search(text)
    if policy and text and not (PACKAGE in text and rules):
        return False
    full, value, version = (
        f"{owner}.{setting}",
        update["expected_value"],
        update["expected_version"],
    )
    has, seen = row.values.get(full, ""), row.versions.get(full, 0)
    return (value is None or value == has) and (version is None or version == seen)


def may_be(kind: Callable[[str], Any], name: str, text: str) -> bool:
    """Whether a setting can have a value; an empty text takes it back."""
    if not text:
        return True
    try:
        value = kind(text)
    except ValueError:
        return False
    return isinstance(value, str) or (
        math.isfinite(value) and 0.0 <= value <= MOST.get(name, math.inf)
    )


def recent(history: list[str]) -> list[str]:
    """The newest changes of each kind of author, in their order."""
    left, found = dict(KEPT), list[str]()
    for text in reversed(history):
        author = json.loads(text)[4]
        kind = author if author in KEPT else ""
        if left[kind]:
            left[kind] -= 1
            found.append(text)
    return found[::-1]


class Control(RowLaw):
    """Folds config_updates; see rowlaw.RowLaw."""

    processor, topic, source = "control", UPDATES, "config_update"
    schemas = ("config_update",)
    sinks = (AUDIT, *sorted({*INPUTS.values()}))
    state = "config_state"
    timed, of_settings = False, True

    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        tenant = record["tenant"]
        row = self.table.get(tenant, Config())
        text, owner = record["value"], record["processor"]
        setting = f"{owner}.{record['setting']}"
        policy = setting == f"integrator.{POLICY}"
        value = bundle(text) if policy and text else text
        kept = digest(value) if policy else value
        detail = {"update": at.place, "setting": record["setting"],
                  "value": digest(text) if policy else text}  # fmt: skip
        if not fits(record, row):
            return [_told(tenant, record["author"], REFUSED, at, detail)]
        self.table[tenant] = row
        was = row.values.pop(setting, "")
        row.version = row.versions[setting] = max(row.version + 1, at.log_ms)
        if kept:
            row.values[setting] = kept
        row.policy = value if policy else row.policy
        ts = at.log_ms * 1000
        change = [row.version, setting, was, kept, record["author"], ts]
        row.history = recent([*row.history, json.dumps(change)])
        row.due = NO_END if row.values else None
        said = {
            "tenant": tenant, "setting": record["setting"], "value": value,
            "author": record["author"], "ts": record["ts"], "processor": owner,
            "version": row.version, "update": at.place,
        }  # fmt: skip
        whose = "" if tenant == EVERYBODY else tenant
        more = {"version": row.version, "processor": owner, "was": was}
        return [
            Out(INPUTS[owner], tenant, said, whose),
            _told(tenant, record["author"], SET, at, detail | more),
        ]

    def unread(self, record: Row | None, key: str, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        return [Out(AUDIT, at.origin, {"action": REFUSED, "update": at.origin}, HERE)]

    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """See rowlaw.RowLaw."""
        if topic != AUDIT:
            return row if name == "control_setting" and row["update"] else None
        if row["action"] not in (SET, REFUSED):
            return None
        detail = {k: v for k, v in json.loads(row["detail"]).items() if k != "why"}
        if "/" in detail["update"]:  # a dead letter's
            return {"action": row["action"], "update": detail["update"]}
        return {"action": row["action"], "actor": row["actor"], "ts": row["ts"], **detail}


def _told(tenant: str, author: str, action: str, at: At, detail: Row) -> Out:
    """What soma.audit says of a change."""
    said = {"action": action, "actor": author, "ts": at.log_ms * 1000, **detail}
    return Out(AUDIT, tenant, said, tenant)
