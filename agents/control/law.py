"""What becomes of a change of a setting: checked, given a version, kept.

A version is the log's time of the change in milliseconds, or one more than the version before where
that isn't later: of two changes of a tenant, or of '*' and a tenant, the later one has the higher
version, in whichever partition they were made, and a state that was lost gives none twice.
(A hybrid logical clock: Kulkarni et al. 2014.)
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from agents.kit.setting import AT, SHOWN, Setting, find, of_tenant, parse
from agents.policy import bundle

Declared = Mapping[str, Mapping[str, Setting]]  # processor -> its settings

CONTROL = "control"  # this processor: it doesn't write its own input
NAMES_MAX = 1000  # settings that a tenant may have of its own: a domain's are one each
KEPT = 100  # of a tenant's changes by people; all of 90 days are in the audit
KEPT_LEARNED = 50  # and of those by the processor learner, which makes one every few seconds
LEARNER = "learner"  # their author
NEVER = 1 << 62  # a timer that never comes: what a tenant has set isn't forgotten
DOMAIN = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(slots=True)
class Config:
    """What a tenant, or '*', has set itself; by name: processor.setting, or with @domain behind."""

    version: int = 0  # of the last change; 0: there was none
    values: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)  # of what was taken back, too
    history: list[str] = field(default_factory=list)  # the last changes, `Change.text` of each
    due: int | None = None
    policy: str = ""  # its own bundle; `values` has the digest


@dataclass(frozen=True, slots=True)
class Change:
    """One that was made: `was` and `value` as text, empty where the tenant had (has) none."""

    version: int
    name: str  # processor.setting
    was: str
    value: str
    author: str
    ts: int  # the log's time, microseconds

    @property
    def learned(self) -> bool:
        """Whether the learner made it, not somebody."""
        return self.author == LEARNER

    @property
    def text(self) -> str:
        """As a row keeps it."""
        return json.dumps([self.version, self.name, self.was, self.value, self.author, self.ts])

    @classmethod
    def of(cls, text: str) -> "Change":
        """From a row. ValueError."""
        return cls(*json.loads(text))


@cache
def declared() -> Declared:
    """The settings of every processor of this installation."""
    from agents.settings.reading import declared as found  # when there is something to check

    return found()


def owner_of(known: Declared, processor: str, setting: str) -> str:
    """The processor that has a setting: the one that is named, or the only one. ValueError."""
    own = setting.partition(AT)[0]
    owners = [name for name, settings in known.items() if own in settings]
    if processor and processor not in known:
        raise ValueError(f"no processor {processor[:SHOWN]!r}; there are {', '.join(known)}")
    if processor and processor not in owners:
        listed = ", ".join(known[processor])
        raise ValueError(f"{processor} has no setting {own[:SHOWN]!r}; there are {listed}")
    if not owners:
        raise ValueError(f"no processor has a setting {own[:SHOWN]!r}")
    if not processor and len(owners) > 1:
        raise ValueError(f"{', '.join(owners)} have a setting {own!r}: name the processor")
    return processor or owners[0]


def checked(known: Declared, row: Config, update: Any) -> str:
    """The processor whose setting it is. ValueError says why the change can't be made."""
    if is_policy(update):
        owner, name = bundle.OWNER, f"{bundle.OWNER}.{bundle.SETTING}"
        _must_fit(row, name, update)
        return owner
    owner = owner_of(known, update.processor, update.setting)
    _, own, domain = find(known[owner], update.setting)
    name = f"{owner}.{update.setting}"
    if owner == CONTROL:
        raise ValueError(f"{owner}'s own is the deployment's: SOMA_{owner.upper()}__{own.upper()}")
    of_tenant(known[owner], update.setting)
    if update.value:  # what can't be a domain may be taken back where it was set
        if domain and not DOMAIN.fullmatch(domain):
            raise ValueError(f"{domain[:SHOWN]!r} can't be a domain: 1 to 128 of A-Z a-z 0-9 . _ -")
        parse(known[owner], update.setting, update.value)
    _must_fit(row, name, update)
    return owner


def is_policy(update: Any) -> bool:
    """Whether a change is of the policy that may veto leaders: see agents/policy/bundle.py."""
    return update.setting == bundle.SETTING and update.processor in ("", bundle.OWNER)


def _must_fit(row: Config, name: str, update: Any) -> None:
    """ValueError where there are too many settings already, or one is another by now."""
    if update.value and name not in row.values and len(row.values) >= NAMES_MAX:
        raise ValueError(f"it has {NAMES_MAX} settings of its own: take some back first")
    has = row.values.get(name, "")
    if update.expected_value is not None and update.expected_value != has:
        raise ValueError(f"{name} is {has[:SHOWN]!r} by now, not {update.expected_value[:SHOWN]!r}")
    at = row.versions.get(name, 0)
    if update.expected_version is not None and update.expected_version != at:
        raise ValueError(
            f"{name} has version {at} by now, not {update.expected_version}: somebody else has "
            "changed it"
        )


def make(row: Config, owner: str, update: Any, value: str | None = None) -> Change:
    """Make a change that was checked, and keep it; `value`: as it is kept, if not as it is."""
    value = update.value if value is None else value
    name = f"{owner}.{update.setting}"
    version = max(row.version + 1, update.log_ms)
    was = row.values.pop(name, "")
    one = Change(version, name, was, value, update.author, update.log_ms * 1000)
    if value:
        row.values[name] = value
    row.version = row.versions[name] = version
    row.history = _kept([*row.history, one.text], one)
    row.due = NEVER if row.values else None
    _tidy(row)
    return one


def _kept(history: list[str], newest: Change) -> list[str]:
    """A history without the oldest change of the newest one's kind, where it has too many."""
    most = KEPT_LEARNED if newest.learned else KEPT
    if len(history) <= most:
        return history
    mine = [k for k, text in enumerate(history) if Change.of(text).learned == newest.learned]
    gone = set(mine[: max(0, len(mine) - most)])
    return [text for k, text in enumerate(history) if k not in gone]


def _tidy(row: Config) -> None:
    """Forget the versions of what was taken back longest ago, where there are too many."""
    gone = sorted((v, name) for name, v in row.versions.items() if name not in row.values)
    for _, name in gone[: max(0, len(gone) - NAMES_MAX)]:
        del row.versions[name]


def values_at(values: Mapping[str, str], history: list[Change], version: int) -> dict[str, str]:
    """What a tenant had set itself when `version` was its last one. ValueError for one that is
    before all that is known.

    What the learner changed before all that is known of it is as it was then.
    """
    ours = [one for one in history if not one.learned]
    if len(ours) >= KEPT and version < ours[0].version:
        raise ValueError(f"only the last {KEPT} changes are kept, from version {ours[0].version}")
    found = dict(values)
    for one in reversed(history):
        if one.version <= version:
            break
        found.pop(one.name, None)
        if one.was:
            found[one.name] = one.was
    return found
