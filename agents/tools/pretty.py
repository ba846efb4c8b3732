"""Records that a person wants to take in at a glance: a headline and a line of detail each.

They come as `codec.to_json` gives them: times are ISO 8601 text, a number may be null.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from agents.tools.output import counted

Record = Mapping[str, Any]
COLOURS = {
    "leader_change": "yellow",
    "max_dwell": "blue",
    "cpd": "bold red",
    "hmm": "bold magenta",
    "threshold": "bold cyan",
}
NUMBERS = 4  # of a vector; the rest is counted


def glance(schema: str | None, record: Record | None) -> Text | None:
    """The record in two lines; None for those without a form of their own, or with a time amiss."""
    form = _FORMS.get(schema or "")
    if form is None or record is None:
        return None
    return form(record)


def _boundary(record: Record) -> Text:
    evidence = str(record["evidence"])
    text = _head(record, "boundary_ts")
    text.append(f"{evidence.replace('_', ' ')}", style=COLOURS.get(evidence, "bold"))
    text.append(f", score {_number(record['score'])}")
    text.append(f", seen {_later(record['boundary_ts'], record['detected_ts'])}\n")
    frames = record["frames"]
    text.append(
        f"    ends {duration(record['dwell_ms'])} of {frames:,} frame{'' if frames == 1 else 's'} "
        f"since {_clock(record['start_ts'])}: error {_number(record['mean_error'])} "
        f"(at most {_number(record['peak_error'])}), "
        f"confidence {_number(record['mean_confidence'])}, led by {record['leader'] or 'nobody'}",
        style="dim",
    )
    return text


def _calibration(record: Record) -> Text:
    text = _head(record, "ts")
    text.append(f"ECE {_number(record['ece_pre'])} → ")
    text.append(f"{_number(record['ece_post'])}\n", style="bold")
    detail = f"    {counted(record['samples'], 'sample')}"
    if record["slope"] is not None:
        detail += f", in force: slope {_number(record['slope'])}, bias {_number(record['bias'])}"
    text.append(
        f"{detail}; Brier {_number(record['brier_pre'])} → {_number(record['brier_post'])}, "
        f"log loss {_number(record['nll_pre'])} → {_number(record['nll_post'])}",
        style="dim",
    )
    return text


def _next_event(record: Record) -> Text:
    text = _head(record, "ts")
    text.append("next ").append(_vector(record["predicted_state"]), style="bold")
    text.append(f", confidence {_number(record['confidence'])}\n")
    regret = record["regret"]
    detail = f"    after {record['observation_id']}"
    detail += "" if regret is None else f", regret {_number(regret)}"
    detail += "".join(f", {name} {value}" for name, value in record["metadata"].items())
    return text.append(detail, style="dim")


def _drift(record: Record) -> Text:
    text = _head(record, "ts")
    text.append(f"{record['kind']} drifted", style="bold red")
    text.append(f": {_number(record['value'])} beyond {_number(record['threshold'])}")
    text.append(" → rolled back\n" if record["rolled_back"] else "\n", style="green")
    text.append(
        f"    over {record['samples']:,} of {record['window']:,} frames; before: entropy "
        f"{_number(record['baseline_entropy'])}, regret {_number(record['baseline_regret'])} a "
        f"round; led by {record['leader'] or 'nobody'}",
        style="dim",
    )
    return text


def _rollback(record: Record) -> Text:
    text = _head(record, "ts")
    text.append("rolled back", style="bold green")
    text.append(f": {record['reason']}\n")
    was, now = record["from"], record["to"]
    changes = [
        f"{name} {was.get(name) or '(default)'} → {now.get(name) or '(default)'}"
        for name in sorted({*was, *now})
    ]
    return text.append(f"    {', '.join(changes) or 'nothing differed'}", style="dim")


_FORMS: dict[str, Callable[[Record], Text]] = {
    "segment_boundary": _boundary,
    "predictor_calibration": _calibration,
    "next_event": _next_event,
    "fusion_drift_event": _drift,
    "fusion_rollback_event": _rollback,
}


def _head(record: Record, time: str) -> Text:
    text = Text(_clock(record[time]), style="cyan", end="")
    text = Text.assemble(text, "  ", (str(record["tenant"]), "bold"))
    if record.get("domain"):
        text.append(f" / {record['domain']}")
    return text.append("  ")


def _when(value: object) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else None


def _clock(value: object) -> str:
    """A time to the millisecond; one beyond the calendar as it is."""
    when = _when(value)
    if when is None:
        return f"{value} µs"
    return when.strftime("%Y-%m-%d %H:%M:%S.") + f"{when.microsecond // 1000:03}"


def _later(first: object, second: object) -> str:
    start, end = _when(first), _when(second)
    if start is None or end is None:
        return f"at {_clock(second)}"
    return f"{duration((end - start).total_seconds() * 1000)} after"


def clock(micros: int) -> str:
    """The time of day (UTC) of microseconds since 1970, to a tenth of a second."""
    try:
        when = datetime.fromtimestamp(micros / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{micros} µs"
    return when.strftime("%H:%M:%S.") + str(when.microsecond // 100_000)


def duration(ms: float) -> str:
    """Milliseconds for people."""
    if abs(ms) < 1_000:
        return f"{ms:.0f} ms"
    if abs(ms) < 60_000:
        return f"{ms / 1000:.1f} s"
    return f"{ms / 60_000:.1f} min" if abs(ms) < 7_200_000 else f"{ms / 3_600_000:.1f} h"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _vector(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    shown = ", ".join(_number(x) for x in value[:NUMBERS])
    return f"[{shown}, … {len(value)} numbers]" if len(value) > NUMBERS else f"[{shown}]"
