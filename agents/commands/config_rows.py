"""What is set, as the topics have it: by control's rows, by processors' rows, by the epochs log."""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.control.law import Change
from agents.kit.asleep import KEPT_AS
from agents.kit.setting import EVERYONE, Setting, Value, find
from agents.tools.reader import TopicReader, seen
from topics.catalogue import CATALOGUE

if TYPE_CHECKING:
    from agents.settings import Settings

EPOCHS, ROWS = "soma.epochs", "soma.control.state"
TENANT, DEPLOYMENT, DEFAULT = "tenant", "deployment", "default"  # whose a value is; or '*'
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Own:
    """What control knows of a tenant, or of '*'."""

    version: int
    values: Texts
    versions: Mapping[str, int]
    history: list[Change]


NOTHING = Own(0, {}, {}, [])


@dataclass(frozen=True, slots=True)
class InForce:
    """A value that counts for a tenant, and whose it is."""

    value: Value
    source: str
    version: int = 0  # that control gave it; 0: it was written past control, or never


def newest(
    settings: "Settings", topic: str, tenant: str | None, wanted: Callable[[str], bool]
) -> dict[str, Any]:
    """The newest records of such keys in a tenant's partition, or in all; none of what is deleted.

    What can't be read is told on standard error. ClickException where the broker doesn't answer.
    """
    reader = TopicReader(settings, topic, "beginning", of=tenant)
    found: dict[str, Any] = {}
    try:
        for message in reader.records(follow=False):
            raw = message.key()
            key = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
            if key is None or not wanted(key):
                continue
            one = seen(message, topic, CATALOGUE[topic].schema)
            if one.error is not None:
                print(f"{one.place}: {one.error}", file=sys.stderr)
            else:
                found[key] = one.record
    finally:
        reader.close()
    return {key: record for key, record in found.items() if record is not None}


def own(settings: "Settings", tenant: str) -> Own:
    """What control knows of a tenant, or of '*'."""
    row = newest(settings, ROWS, tenant, lambda key: key == tenant).get(tenant)
    if row is None or not row["version"]:
        return NOTHING
    changes = [Change.of(text) for text in row["history"]]
    return Own(row["version"], row["values"], row["versions"], changes)


def in_force(
    settings: "Settings", declared: Mapping[str, Mapping[str, Setting]], tenant: str
) -> dict[str, dict[str, InForce]]:
    """All that counts for a tenant, by processor and setting, as its newest rows have it."""
    sets = {EVERYONE: own(settings, EVERYONE), tenant: own(settings, tenant)}
    epochs = _deployment(settings, declared, tenant)
    return {
        name: _values(name, each, epochs[name], sets, _rows(settings, name, tenant))
        for name, each in declared.items()
    }


def _values(
    processor: str, declared: Mapping[str, Setting], deployment: Texts,
    sets: Mapping[str, Own], rows: Mapping[str, Mapping[str, float | str]],
) -> dict[str, InForce]:  # fmt: skip
    found = {}
    for name, setting in declared.items():
        value = setting.parse(deployment[name]) if name in deployment else setting.default
        source = DEFAULT if value == setting.default else DEPLOYMENT
        found[name] = InForce(value, source)
    for owner, known in sets.items():
        for name, kept in sorted(rows.get(owner, {}).items()):
            if name == KEPT_AS and name not in declared:
                continue  # `soma sleep status` shows it
            setting, _, _ = find(declared, name)
            value = setting.parse(kept) if isinstance(kept, str) else setting.of_number(kept)
            full = f"{processor}.{name}"
            said = known.values.get(full)
            same = said is not None and setting.parse(said) == value
            version = known.versions.get(full, 0) if same else 0
            found[name] = InForce(value, EVERYONE if owner == EVERYONE else TENANT, version)
    return found


def _rows(
    settings: "Settings", processor: str, tenant: str
) -> dict[str, Mapping[str, float | str]]:
    """What the tenant and '*' have set, by the rows of a processor."""
    topic, keys = f"soma.{processor}.state", (EVERYONE, tenant)
    rows = newest(settings, topic, tenant, lambda key: key in keys)
    return {owner: row["settings"] for owner, row in rows.items()}


def _deployment(
    settings: "Settings", declared: Iterable[str], tenant: str
) -> dict[str, dict[str, str]]:
    """The deployment's values under which a tenant's partition is folded, by processor; those of
    this environment where it never was.
    """
    given = {
        name: {one: str(value) for one, value in (settings.common() | settings.given(name)).items()}
        for name in declared
    }
    epochs = newest(
        settings, EPOCHS, tenant,
        lambda key: key.rpartition("/")[0] in given,  # PROCESSOR/PARTITION; skips have a longer one
    )  # fmt: skip
    return given | {one["processor"]: one["settings"] for one in epochs.values()}
