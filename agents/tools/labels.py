"""Where people saw changes: the Turing dataset's annotations, or one index a line."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from agents.tools import tcpd
from agents.tools.csvform import Told
from agents.tools.scores import Labels
from agents.tools.source import Source, TableError
from agents.tools.table import strict

BYTES_MAX = 64 << 20
ONE = "labels"  # the annotator of a plain list


def read_labels(path: Path, series: Sequence[str], domains: Sequence[str]) -> dict[str, Labels]:
    """The labels of each domain; a domain without any is left out.

    In annotations a domain's own name counts first, then a name of the series (the first of
    `series` that is there), which then labels every domain. Raises TableError, OSError.
    """
    with path.open("rb") as stream:
        source = strict(stream, Told(final=True))  # labels are whole
        first = source.first()
        if not first.lstrip().startswith("{"):
            places = _lines(source)
            return {domain: {ONE: places} for domain in domains}
        known: Mapping[str, Labels] = tcpd.annotations(tcpd.parsed(source.rest(BYTES_MAX)))
    common = next((known[name] for name in series if name in known), None)
    found = {domain: known.get(domain, common) for domain in domains}
    labelled = {domain: labels for domain, labels in found.items() if labels is not None}
    if not labelled:
        names = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
        raise TableError(f"no annotations of {' or '.join([*series, *domains])}; there are {names}")
    return labelled


def together(labels: Mapping[str, Collection[int]]) -> list[int]:
    """All annotators' locations, once each, in order."""
    return sorted(set().union(*labels.values()))


def _lines(source: Source) -> list[int]:
    places = []
    for line in source:
        text = line.strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise TableError(f"{text[:40]!r} isn't an index (0, 1, 2, …)", source.line)
        places.append(int(text))
    return places
