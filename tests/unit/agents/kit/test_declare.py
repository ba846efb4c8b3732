"""What a row processor may be declared with, and how it is said what may not."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.warm import warm
from agents.kit import Emit, Reads, RowProcessor, Setting
from agents.kit.schema import RowMismatch, differences, row_schema
from ops.examples import COUNTS
from tests.contract.harness import SETTINGS, Run, loaded, messages
from tests.unit.ops.examples.counting.samples import records
from topics import codec, schemas
from topics.compat import misshapen, unreadable
from topics.layout import Layout


@dataclass
class Row:
    total: int = 0
    last_ts: int = 0
    norms: float = 0.0


@dataclass
class More(Row):
    name: str = ""


@dataclass
class Less:
    total: int = 0


@dataclass
class Other:
    total: float = 0.0
    last_ts: int = 0
    norms: float = 1.0


@dataclass
class Lacking:
    total: int


@dataclass
class Strange:
    total: int = 0
    when: complex = 0j


@dataclass
class Clash:
    touched: int = 0


@dataclass(kw_only=True)
class Named:
    total: int = 0


@dataclass
class Fixed:
    total: int = field(default=0, init=False)


@dataclass(frozen=True)
class Frozen:
    total: int = 0


class Plain:
    total = 0


def law(row: Any, record: Any, out: Emit) -> None:
    row.total += 1


def made(**given: Any) -> Callable[[], Any]:
    arguments: dict[str, Any] = {
        "name": "counting", "source": "cog.observations", "sinks": (COUNTS,), "row": Row,
    }  # fmt: skip
    arguments |= {"fold": law} if "folds" not in given else {}
    return lambda: RowProcessor(**(arguments | given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"source": "cog.nothing"}, "counting: there is no topic cog.nothing; the catalogue has"),
        ({"source": "cog.observations.dlq"}, "counting: the topic cog.observations.dlq has no sch"),
        ({"sinks": ("cog.nothing",)}, "counting: there is no topic cog.nothing; the catalogue has"),
        ({"fold": None}, "counting: give either fold or folds"),
        ({"folds": {"observation": law}, "fold": law}, "counting: give either fold or folds"),
        ({"folds": {"memory_event": law}}, "counting: folds lacks observation"),
        ({"folds": {"observation": law, "x": law}}, "counting: there is no schema x"),
        ({"reads": Reads(tenant="who")}, "counting: observation has no field who; `reads` says"),
        ({"reads": Reads(tenant="domain")}, "observation has a field tenant, which domain would"),
        ({"name": "nothing"}, "nothing: the catalogue has no topic soma.nothing.state"),
        ({"row": More}, "isn't that of More: name: not in the schema; `soma schema row counting`"),
        ({"row": Less}, "isn't that of Less: last_ts: not in the dataclass; norms: not in"),
        ({"row": Other}, "total: double by the dataclass, long there; norms: default 1.0, 0.0"),
        ({"row": Lacking}, "counting: row field total has no default"),
        ({"row": Strange}, "counting: row field when: <class 'complex'> can't be kept"),
        ({"row": Clash}, "counting: touched is a name of the kit's own"),
        ({"row": Plain}, "counting: rows are dataclasses, and"),
        ({"row": Named}, "counting: row field total can't be given by its position"),
        ({"row": Fixed}, "counting: row field total can't be given by its position"),
        ({"row": Frozen}, "counting: Frozen is frozen: no law could change its rows"),
        ({"on_time": law}, "counting: on_time needs a row field `due: int | None = None`"),
        ({"settings": {"forget_after_s": Setting(60, "x")}}, "is a setting of every processor"),
        ({"settings": {"x": Setting(1, "x", scope="domain")}}, "x: rows have no settings of a"),
    ],
)
def test_what_cant_be_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as error:
        made(**given)()
    assert said in str(error.value)


def test_all_kinds_of_fields_have_a_schema_that_can_be_registered() -> None:
    @dataclass
    class Wide:
        a: int = 1
        b: float = 0.5
        c: str = "é"
        d: bytes = b"\xff"
        e: bool = True
        f: int | None = None
        g: list[str] = field(default_factory=list)
        h: dict[str, float] = field(default_factory=dict)
        i: list[bytes] = field(default_factory=list, metadata={"doc": "why"})

    schema = row_schema("wide", Wide)
    assert misshapen(schema, "wide_state") == []
    assert [f.name for f in Layout(schemas.plain(schema)).fields][2:] == list("abcdefghi")
    assert schema["fields"][-1]["doc"] == "why"
    assert differences(schema, schema) == []
    narrow = {**schema, "fields": [dict(f) for f in schema["fields"]]}
    narrow["fields"][2]["type"] = "int"
    assert differences(schema, narrow)[0] == "a: give it 64 bits (long or double)"
    swapped = {**schema, "fields": schema["fields"][::-1]}
    assert differences(schema, swapped)[0].startswith("the fields' order: touched, settings, a")


def test_a_mismatch_carries_the_schema_that_is_wanted() -> None:
    with pytest.raises(RowMismatch) as error:
        made(row=More)()
    assert error.value.wanted == row_schema("counting", More)
    assert unreadable(error.value.wanted, schemas.schemas().raw("counting_state")) == []


def test_reads_are_of_all_schemas_or_of_each() -> None:
    both = {"observation": law, "memory_event": law}
    own = Reads(domain=None)
    assert made(folds=both, reads=own)().kinds == {"memory_event": own}
    apart = made(folds=both, reads={"memory_event": own})()
    assert apart.reads == Reads() and apart.kinds == {"memory_event": own}


def test_warming_up_asks_the_law_nothing() -> None:
    def never(row: Any, record: Any, out: Emit) -> None:
        raise AssertionError(record)

    def nor(record: Any) -> str:
        raise AssertionError(record)

    warm(Plan(made(fold=never, key=nor)(), SETTINGS, 1), SETTINGS)


def newer(row: type[Any], version: int) -> Plan:
    """A plan whose rows have another dataclass, registered as a further version of the schema."""
    known = schemas.schemas()
    number, key = 1500 + version, ("counting_state", version)
    raw = row_schema("counting", row)
    known._numbers[key], known._keys[number] = number, key
    known._raw[key], known._parsed[key] = raw, schemas.parse(raw, f"counting_state.v{version}")
    return Plan(made(row=row)(), SETTINGS, 1)


@dataclass
class Grown:
    """`last_ts` went, `total` became wider, `seen` came."""

    total: float = 0.0
    norms: float = 0.0
    seen: list[str] = field(default_factory=lambda: ["before"])


@pytest.fixture
def _versions() -> Any:
    yield
    known = schemas.schemas()
    for key in [key for key in known._numbers if key[0] == "counting_state" and key[1] > 1]:
        del known._keys[known._numbers.pop(key)], known._raw[key], known._parsed[key]


@pytest.mark.usefixtures("_versions")
def test_rows_of_an_older_dataclass_are_read_and_of_a_newer_one_are_not() -> None:
    old = Plan(made()(), SETTINGS, 1)
    made_records = records(np.random.default_rng(1), 50)
    rows = Run(old).feed([messages(old, made_records)]).rows()
    wanted = {key: codec.decode(value)[1] for key, value in rows.items()}
    new = newer(Grown, 2)
    run = Run(new)
    run.load(rows)
    run.feed([messages(new, made_records)])
    found = {key: codec.decode(value)[1] for key, value in run.rows().items()}
    assert found.keys() == wanted.keys() and len(found) > 3
    for key, row in found.items():
        assert row["total"] == 2.0 * wanted[key]["total"] and type(row["total"]) is float
        assert row["norms"] == wanted[key]["norms"] and row["seen"] == ["before"]
        assert row["touched"] == wanted[key]["touched"]
    with pytest.raises(UnknownVersion, match=r"counting.state/0: row .* has an unknown schema"):
        loaded(old, run.rows())


@dataclass
class Picky(Row):
    """Doesn't take what it has written itself."""

    def __post_init__(self) -> None:
        if self.total:
            raise TypeError("not mine")


def test_a_row_that_its_dataclass_doesnt_take_is_of_an_unknown_version() -> None:
    old = Plan(made()(), SETTINGS, 1)
    rows = Run(old).feed([messages(old, records(np.random.default_rng(1), 5))]).rows()
    with pytest.raises(UnknownVersion, match="a row can't be made: TypeError: not mine"):
        loaded(Plan(made(row=Picky)(), SETTINGS, 1), rows)
