"""The check of the whole folder avro/, run by `soma schema check` and in CI.

Everything that is wrong is named at once: ids.json against the files, each file's shape and
defaults, BACKWARD_TRANSITIVE compatibility, and files that changed after they were recorded.
"""

import json
import os
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from topics.compat import misshapen, unreadable
from topics.schemas import (
    PLUGINS,
    RESERVED,
    SchemaError,
    fingerprint,
    folder,
    parse,
    read,
    split,
)

FINGERPRINTS = "fingerprints.json"
ID_MAX = 2**31 - 1  # Confluent's ids are 32 bits, and its clients take them for signed


@dataclass(slots=True)
class Report:
    """What the check found: every schema with its id, and every problem as one line."""

    schemas: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def check(place: Path | None = None) -> Report:
    """Check a folder of schemas (default: the installed one)."""
    where = place or folder()
    report = Report()
    _check_ids(where, report)
    raw = _check_files(where, report)
    _check_versions(raw, report)
    _check_unchanged(where, raw, report)
    return report


def record(place: Path | None = None, replace: tuple[str, ...] = ()) -> list[str]:
    """Record the fingerprints of new files; returns which. Recorded ones stay as they are.

    `replace` names files to record anew: right only while nothing was ever written with them.
    """
    where = place or folder()
    known = _fingerprints(where)
    fresh = [s for s in _stems(where) if s not in known or s in replace]
    for stem in fresh:
        known[stem] = fingerprint(read(where / f"{stem}.avsc"))
    text = json.dumps(dict(sorted(known.items())), indent=2)
    # In one step: a check that runs meanwhile sees the old file or the new one.
    part = where / f".{FINGERPRINTS}.{os.getpid()}"
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(where / FINGERPRINTS)
    return fresh


def _stems(where: Path) -> list[str]:
    return sorted(path.stem for path in where.glob("*.avsc"))


def _fingerprints(where: Path) -> dict[str, str]:
    return read(where / FINGERPRINTS) if (where / FINGERPRINTS).exists() else {}


def _check_ids(where: Path, report: Report) -> None:
    try:
        table = read(where / "ids.json")
    except SchemaError as error:
        report.problems.append(str(error))
        return
    for text, stem in table.items():
        if not (text.isdecimal() and str(int(text)) == text and 0 < int(text) <= ID_MAX):
            report.problems.append(f"ids.json: {text!r} is no id")
            continue
        report.schemas[int(text)] = str(stem)
        if (RESERVED <= int(text) < PLUGINS) != str(stem).startswith("control_"):
            span = f"{RESERVED} to {PLUGINS - 1}"
            report.problems.append(f"ids.json: ids from {span} are for control_*: {stem}")
    listed = list(report.schemas.values())
    files = set(_stems(where))
    twice = sorted({stem for stem in listed if listed.count(stem) > 1})
    report.problems += [f"ids.json: {stem} has two ids" for stem in twice]
    report.problems += [f"{stem}.avsc: not in ids.json" for stem in sorted(files - set(listed))]
    report.problems += [f"ids.json: no file {stem}.avsc" for stem in sorted(set(listed) - files)]


def _check_files(where: Path, report: Report) -> dict[str, dict[int, Any]]:
    """name -> version -> schema, of the files that are schemas."""
    found: dict[str, dict[int, Any]] = {}
    for stem in _stems(where):
        try:
            name, version = split(stem)
            raw = read(where / f"{stem}.avsc")
            parse(raw, stem)
        except SchemaError as error:
            report.problems.append(str(error))
            continue
        report.problems += [f"{stem}.avsc: {problem}" for problem in misshapen(raw, name)]
        found.setdefault(name, {})[version] = raw
    return found


def _check_versions(raw: dict[str, dict[int, Any]], report: Report) -> None:
    for name, versions in sorted(raw.items()):
        missing = sorted(set(range(1, max(versions) + 1)) - set(versions))
        report.problems += [f"{name}: v{number} is missing" for number in missing]
        for old, new in combinations(sorted(versions), 2):
            report.problems += [
                f"{name}: v{new} can't read v{old}: {problem}"
                for problem in unreadable(versions[new], versions[old])
            ]


def _check_unchanged(where: Path, raw: dict[str, dict[int, Any]], report: Report) -> None:
    try:
        known = _fingerprints(where)
    except SchemaError as error:
        report.problems.append(str(error))
        return
    now = {f"{n}.v{v}": fingerprint(s) for n, versions in raw.items() for v, s in versions.items()}
    for stem in sorted(now):
        if stem not in known:
            report.problems.append(f"{stem}.avsc: not recorded yet; run `soma schema record`")
        elif known[stem] != now[stem]:
            report.problems.append(
                f"{stem}.avsc: changed since it was recorded; leave it and add a version"
            )
    gone = sorted(set(known) - set(_stems(where)))
    report.problems += [f"{stem}.avsc: recorded, but it is gone" for stem in gone]
