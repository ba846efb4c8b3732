"""Declare a processor whose law is a plain Python function: `RowProcessor(…)`.

@dataclass(slots=True)
class Count:
    total: int = 0

def count(row: Count, record: Any, out: Emit) -> None:
    row.total += 1
    out.to("my.counts", {"tenant": record.tenant, "total": row.total, "ts": record.ts})

PROCESSOR = RowProcessor("counting", "cog.observations", ("my.counts",), Count, count)
"""

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from agents.engine.processor import Processor, Reads, Tally
from agents.engine.row_counts import RowCount, RowMean
from agents.kit.asleep import KEPT_AS
from agents.kit.emit import Emit, layout_of, scratch_fields
from agents.kit.fold import KIT_FIELDS, Key, Law, Off, OnTime, RowFold, Spec, Unread
from agents.kit.row_counts import By, Mean
from agents.kit.schema import RowMismatch, differences, row_schema
from agents.kit.setting import COGNITION, OFF_ON, Setting
from agents.kit.table import FORGET
from topics.catalogue import CATALOGUE
from topics.layout import Layout
from topics.schemas import schemas

REFUSED = "refused"  # the reason of `Refuse` unless it names another
FORGET_SETTING = Setting(
    30 * 86_400, "silence after which a row is forgotten", 60, 315_360_000, unit="s"
)

STEERS = Setting(
    OFF_ON[1],
    "whether it acts, or counts what comes as disabled; not set: as SOMA_ENABLE_COG_THREADS says",
    choices=OFF_ON,
)


def RowProcessor(  # noqa: N802 - reads as a declaration
    name: str,
    source: str,
    sinks: tuple[str, ...],
    row: type[Any],
    fold: Law | None = None,
    *,
    folds: Mapping[str, Law] | None = None,
    key: str | Key | None = None,
    on_time: OnTime | None = None,
    settings: Mapping[str, Setting] | None = None,
    reasons: Mapping[str, str] | None = None,
    counts: Mapping[str, str | By | Mean] | None = None,
    reads: Reads | Mapping[str, Reads] | None = None,
    unread: Unread | None = None,
    controls: Mapping[str, str] | None = None,
    off: Off | None = None,
    sleeps: bool = False,
    switch: str = "",
    lasting: bool = False,
    law: int = 1,
) -> Processor:
    """A processor whose law is `fold`, or one per schema of the source (`folds`).

    A law gets the row of the record's tenant (of the entity that `key`, a field's name or a
    function, finds in the record), the record, and `Emit`. It changes the row in place; it has no
    clock, no random numbers and no I/O. `on_time(row, now, out)` is called when the row's field
    `due` (wall time, microseconds, or None) has come. `settings` come in band, `reasons` are those
    of `Refuse` -> what each says of a record, `counts` are metrics -> their help (or `By`: how many
    rows have which values in a field, or `Mean`), `reads` says which fields of the source are
    checked (one for all schemas, or by schema), `unread(letter)` may answer on a sink who wrote a
    dead letter, `controls` are those of the sinks that get control records, or others than the
    catalogue says -> their schema, and `law` goes up whenever other bytes would come out. With
    `sleeps` the law knows how deep a tenant sleeps (`out.asleep`). `switch` names an off-and-on
    setting: while nobody has it on and there are no rows, no law is called. `lasting`: only the law
    lets rows go, not silence. With `off` it acts only where the setting `cognition` is on: else
    `off(row, record, out)` takes the law's place, and what it returns False for is counted.
    ValueError names what of it can't be.
    """
    laws, state = _laws(name, source, fold, folds), _state(name, row)
    _timed(name, row, on_time)
    declared, counts = _settings(name, settings, sleeps, switch), dict(counts or {})
    if off is not None:
        laws = _steering(name, laws, off, declared, counts)
    said = {REFUSED: "the law refused it"} | dict(reasons or {})
    each = _reads(laws, reads)
    tenants = {one: _tenant_of(name, one, its.tenant) for one, its in each.items()}
    tallies = _tallies(name, row, counts)
    spec = Spec(
        name, source, state, sinks, row, laws, tenants,
        attrgetter(key) if isinstance(key, str) else key,
        on_time, declared | ({} if lasting else {FORGET: FORGET_SETTING}), tuple(said),
        tuple(one.name for one in tallies if not isinstance(one, RowCount)),
        tuple(one for one in tallies if isinstance(one, RowCount)),
        unread, dict(controls or {}), sleeps, switch, lasting,
    )  # fmt: skip
    main, *others = laws
    return Processor(
        name=name, source=source, sinks=sinks, state_schema=state, law=law,
        settings=spec.settings,
        make=lambda context: RowFold(spec, context),
        reasons=said,
        sink_src={one: scratch_fields(_layout(name, one, spec.controls.get(one))) for one in sinks},
        sink_schemas=spec.controls,
        state_src=scratch_fields(Layout(schemas().newest(state))),
        tallies=tallies,
        reads=each[main],
        kinds={one: each[one] for one in others},
        in_loop=False,
    )  # fmt: skip


def _timed(name: str, row: type[Any], on_time: OnTime | None) -> None:
    """ValueError for rows that can't say when they want to be called."""
    if on_time is not None and "due" not in {one.name for one in fields(row)}:
        raise ValueError(f"{name}: on_time needs a row field `due: int | None = None`")


def _settings(
    name: str, settings: Mapping[str, Setting] | None, sleeps: bool, switch: str
) -> dict[str, Setting]:
    """Those that a processor declares itself; ValueError for what can't be one of rows."""
    declared = dict(settings or {})
    if switch and declared[switch].choices != OFF_ON:
        raise ValueError(f"{name}: {switch} is no setting of 'off' and 'on'")
    if sleeps and KEPT_AS in declared:
        raise ValueError(f"{name}: {KEPT_AS} stands for a tenant's sleep among its settings")
    if FORGET in declared:
        raise ValueError(f"{name}: {FORGET} is a setting of every processor")
    if of_domain := [one for one, setting in declared.items() if setting.scope == "domain"]:
        raise ValueError(f"{name}: {', '.join(of_domain)}: rows have no settings of a domain")
    return declared


def _reads(laws: Mapping[str, Law], reads: Reads | Mapping[str, Reads] | None) -> dict[str, Reads]:
    """What is checked of each schema's records."""
    by_schema = reads if isinstance(reads, Mapping) else {}
    common = reads if isinstance(reads, Reads) else Reads()
    return {one: by_schema.get(one, common) for one in laws}


def _tallies(name: str, row: type[Any], counts: Mapping[str, str | By | Mean]) -> tuple[Tally, ...]:
    """What is counted; ValueError for a field that rows don't have."""
    known = {one.name for one in fields(row)}
    if lost := [one.field for one in counts.values() if not isinstance(one, str)
                and one.field not in known]:  # fmt: skip
        raise ValueError(f"{name}: counts: {row.__name__} has no field {', '.join(lost)}")
    return tuple(_tally(one, how) for one, how in counts.items())


def _tally(name: str, how: str | By | Mean) -> Tally:
    if isinstance(how, By):
        return RowCount(name, how.help, how.field, values=how.values)
    return RowMean(name, how.help, how.field) if isinstance(how, Mean) else Tally(name, how)


def _steering(
    name: str, laws: Mapping[str, Law], off: Off, settings: dict[str, Setting],
    counts: dict[str, str | By | Mean],
) -> dict[str, Law]:  # fmt: skip
    """The laws of a processor that acts only where cognition is on; adds what it needs for that."""
    settings[COGNITION] = STEERS
    disabled = f"soma_{name}_disabled_total"
    counts[disabled] = f"Records that passed {name} while cognition was off for their tenant."
    return {schema: _gated(one, off, disabled) for schema, one in laws.items()}


def _gated(law: Law, off: Off, disabled: str) -> Law:
    """The law where cognition is on, `off` and a count where it isn't."""

    def gated(row: Any, record: Any, out: Emit) -> None:
        if out.setting(COGNITION) == OFF_ON[1]:
            law(row, record, out)
        elif not off(row, record, out):
            out.count(disabled)

    return gated


def _layout(name: str, topic: str, schema: str | None = None) -> Layout:
    """The fields of a topic's records; ValueError names the processor."""
    try:
        return layout_of(topic, schema)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _laws(
    name: str, source: str, fold: Law | None, folds: Mapping[str, Law] | None
) -> dict[str, Law]:
    """Schema -> law, the source's own schema first."""
    _layout(name, source)
    main = CATALOGUE[source].schema or ""
    if (fold is None) == (folds is None):
        raise ValueError(f"{name}: give either fold or folds")
    laws = {main: fold} if fold is not None else dict(folds or {})
    if main not in laws:
        raise ValueError(f"{name}: folds lacks {main}, the schema of {source}")
    for schema in laws:
        if schema not in schemas().names():
            raise ValueError(f"{name}: there is no schema {schema}")
        names = {one["name"] for one in schemas().newest(schema)["fields"]}
        if clash := names & set(KIT_FIELDS):
            raise ValueError(f"{name}: {schema} has {', '.join(clash)}, a name of the kit's own")
    return {main: laws.pop(main), **laws}


def _tenant_of(name: str, schema: str, field: str) -> str:
    """The field that is the tenant, if the schema has it, and no other by that name."""
    names = [one["name"] for one in schemas().newest(schema)["fields"]]
    if field not in names:
        raise ValueError(f"{name}: {schema} has no field {field}; `reads` says which is the tenant")
    if field != "tenant" and "tenant" in names:
        raise ValueError(f"{name}: {schema} has a field tenant, which {field} would hide")
    return field


def _state(name: str, row: type[Any]) -> str:
    """The schema of the processor's rows, compared with their dataclass."""
    topic = f"soma.{name}.state"
    if topic not in CATALOGUE or (state := CATALOGUE[topic].schema) is None:
        raise ValueError(f"{name}: the catalogue has no topic {topic} with a schema")
    wanted = row_schema(name, row) | {"name": state}
    settle = f"`soma schema row {name}` writes it"
    if state not in schemas().names():
        raise RowMismatch(f"{name}: there is no schema {state}; {settle}", wanted)
    if problems := differences(wanted, schemas().newest(state)):
        text = f"the schema {state} isn't that of {row.__name__}: {'; '.join(problems)}"
        raise RowMismatch(f"{name}: {text}; {settle} anew", wanted)
    return state
