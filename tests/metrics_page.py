"""ops/METRICS.md as a test reads it, and what a page of metrics says."""

import re
from pathlib import Path
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

PAGE = Path(__file__).parents[1] / "ops" / "METRICS.md"
ROW = re.compile(r"\| `(soma_[a-z0-9_]+)` \| (\w+) \| ([a-z, ]*)\| \S.* \|")


class Metric(NamedTuple):
    """One metric; labels in the page's order, None where no sample shows them."""

    kind: str
    labels: frozenset[str] | None


def documented() -> dict[str, dict[str, Metric]]:
    """section -> name -> metric. ValueError for a table's row that isn't one of a metric."""
    found: dict[str, dict[str, Metric]] = {}
    section: dict[str, Metric] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = found[line.removeprefix("## ")] = {}
        elif line.startswith("| `"):
            match = ROW.fullmatch(line)
            if match is None:
                raise ValueError(f"{PAGE.name}: {line!r} isn't | `name` | type | labels | text |")
            name, kind, labels = match.groups()
            section[name] = Metric(kind, frozenset(re.findall("[a-z]+", labels)))
    return found


def said(text: str) -> dict[str, Metric]:
    """name -> metric of a page in Prometheus' text format, of those that are ours."""
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("soma_") and not family.name.endswith("_created"):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
            found[name] = Metric(family.type, next(iter(labels), None))
    return found


def differences(wanted: dict[str, Metric], found: dict[str, Metric]) -> list[str]:
    """What the page and a process say differently, with what to do."""
    lines = [
        f"{name} is emitted and not documented: add it to ops/METRICS.md, in the right section, as "
        f"| `{name}` | {found[name].kind} | labels | what it says |"
        for name in sorted(found.keys() - wanted.keys())
    ]
    lines += [
        f"{name} stands in ops/METRICS.md and isn't emitted: emit it, or take it out there"
        for name in sorted(wanted.keys() - found.keys())
    ]
    for name in sorted(found.keys() & wanted.keys()):
        own, page = found[name], wanted[name]
        if own.kind != page.kind or own.labels not in (None, page.labels):
            lines.append(f"{name}: ops/METRICS.md says {page}, the process {own}")
    return lines
