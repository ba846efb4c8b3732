"""The house's own rules: who imports whom, who speaks to stores, how large a function may be.

Each check takes source text and gives what is wrong in it; what is allowed all the same is named
here with its reason, and must be found: a list can only become shorter.
"""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from agents.engine.registry import processor_names, processors, service_names
from topics import compiled
from topics.catalogue import CATALOGUE

ROOT = Path(__file__).parents[2]
TOPS = ("agents", "client", "ops", "stores", "topics")
TEXTS = (".md", ".py", ".sql")
LINES_MAX, PARAMETERS_MAX = 70, 8
Function = ast.FunctionDef | ast.AsyncFunctionDef
KERNELS = {"entry", "kernel", "view", "glue", "part"}  # the decorators of topics/compiled.py
CLIENTS = {"asyncpg", "redis", "sqlite3"}
PORTS = {5432, 6066, 6379, 8080, 8181, 9092}  # ours and those of servers beside us

PLAIN, UNITS = {0, 1, 2, 0.5}, {1000, 1_000_000}
CARRIES_ON = (ast.BinOp, ast.UnaryOp, ast.Tuple, ast.List, ast.Set)  # a comparison into its parts

# Of arithmetic with arrays, whose shape stands beside it.
BARE_NUMBERS: dict[str, list[str]] = {}
SPEAK_TO_STORES = {
    "ops/bench/peers/outbox.py": "a relay as others write it, to compare with",
    "ops/prove/outbox_table.py": "checks the tables behind the back of what is proven",
    "ops/prove/outbox_verify.py": "checks the tables behind the back of what is proven",
    "ops/prove/outbox_writers.py": "writes as services in other languages do",
    "ops/stack/postgres.py": "asks the server that it starts whether it is there",
    "ops/stack/valkey.py": "asks the server that it starts whether it is there",
}
KNOW_NUMBA = {
    "topics/compiled.py": "how kernels are compiled",
    "agents/engine/compiling.py": "which are compiled",
}
USE_OPS = {  # verbs that start the local stack, or run what lies in ops/
    "agents/commands/bench.py", "agents/commands/bench_outbox.py", "agents/commands/benching.py",
    "agents/commands/bench_retrieval.py", "agents/commands/bench_rho.py",
    "agents/commands/bench_rows.py",
    "agents/commands/bench_scaling.py", "agents/commands/demo.py", "agents/commands/doctor.py",
    "agents/commands/stack.py",
}  # fmt: skip
WITH_MANY_PARAMETERS = {  # click gives a command all of its options; a declaration names its own
    "agents/commands/bench.py:chain": 9,
    "agents/commands/outbox.py:replay": 10,
    "agents/commands/segment.py:segment": 16,
    "agents/kit/columns.py:__init__": 11,
    "agents/kit/declare.py:RowProcessor": 19,
}
# What the house called processors, the HTTP API and what a relay's shards share. "room" is space.
OURS = re.compile(
    r"(?:\b|_)(?i:rooms|doors?|office)(?=\b|_)|(?<=[a-z])(?:Rooms?|Doors?|Office)(?![a-z])"
)
NAMED = re.compile(
    r"\b(?:agents|avro|migrations|ops|stores|tests|topics)/[\w./-]*\w\.(?:avsc|lua|md|py|sql)\b"
    r"|(?<=`)\w+\.py(?=`)|(?<![\w./-])\w+\.md\b"
)
SAY_THEM = {
    "agents/commands/warm.py": "a field of its JSON, which people may read by this name",
    "tests/contract/test_house.py": "looks for them",
    "tests/unit/agents/engine/test_compiling.py": "reads that field",
    "tests/unit/agents/test_cli.py": "looks for them in what users read",
}
READERS = "docs/tutorial.md"  # names files of the package that its reader writes
SAID_NOTHING = {  # names of files that said nothing of what was in them
    "aside", "book", "doors", "given", "held", "journal_door", "journal_hand", "large", "office",
    "outbox_door", "part", "passes", "slots", "standing",
}  # fmt: skip


@cache
def everything() -> dict[str, ast.Module]:
    """All modules, by their paths."""
    found = [path for top in TOPS for path in sorted((ROOT / top).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in found}


@cache
def texts() -> dict[str, str]:
    """What people read, code and pages, by path."""
    tops = [ROOT / top for top in (*TOPS, "docs", "migrations", "tests")]
    found = [*ROOT.glob("*.md"), *(path for top in tops for path in sorted(top.rglob("*")))]
    kept = [path for path in found if path.suffix in TEXTS]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in kept}


def parsed(folder: str) -> dict[str, ast.Module]:
    """A folder's modules, by their paths."""
    return {path: tree for path, tree in everything().items() if path.startswith(f"{folder}/")}


@cache
def imports(tree: ast.AST) -> set[str]:
    """What a module imports, in functions too, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{one.name}" for one in node.names)
    return found


def uses(tree: ast.AST, *packages: str) -> set[str]:
    """What a module imports of these packages."""
    return {one for one in imports(tree) if any(f"{one}.".startswith(f"{p}.") for p in packages)}


def functions(tree: ast.AST) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(one: Function) -> int:
    return (one.end_lineno or 0) - one.lineno + 1


def parameters(one: Function) -> int:
    """How many a caller may give; none of a kernel's, whose arrays come one by one."""
    if KERNELS & {ast.unparse(decorator) for decorator in one.decorator_list}:
        return 0
    named = [*one.args.posonlyargs, *one.args.args, *one.args.kwonlyargs]
    return len([arg for arg in named if arg.arg not in ("self", "cls")])


def literals(tree: ast.AST) -> Iterator[tuple[str | int, bool]]:
    """Names of topics and ports that stand in the code; whether as the value of a constant."""
    constants = {
        id(part)
        for node in (tree.body if isinstance(tree, ast.Module) else ())
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for part in ast.walk(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int):
            named = isinstance(node.value, str) and node.value in CATALOGUE
            if named or (not isinstance(node.value, bool) and node.value in PORTS):
                yield node.value, id(node) in constants


def bare_numbers(tree: ast.AST) -> Iterator[str]:
    """Numbers in the bodies of functions that say nothing of what they are.

    0, 1, 2 and 0.5 do, and so do, where nothing is compared with them: whole numbers below ten
    and powers of two (columns, bytes of a number, first sizes of what grows), and, where something
    is multiplied or divided by them, a thousand and a million (units of time).
    """
    for one in functions(tree):
        for statement in one.body:
            yield from _bare(statement, False, False)


def _bare(node: ast.AST, compared: bool, factor: bool) -> Iterator[str]:
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, int | float) and not isinstance(value, bool):
            plain = isinstance(value, int) and (value < 10 or value & (value - 1) == 0)
            said = value in PLAIN or (plain and not compared) or (factor and value in UNITS)
            yield from [] if said else [str(value)]
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign | ast.arguments):
        compared = False
    inside = isinstance(node, ast.Compare) or (compared and isinstance(node, CARRIES_ON))
    times = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div | ast.FloorDiv)
    for child in ast.iter_child_nodes(node):
        yield from _bare(child, inside, times)


def test_a_processor_never_imports_another() -> None:
    packages = {*processor_names(), *service_names()}
    found = {}
    for name in packages:
        others = [f"agents.{other}" for other in packages - {name}]
        for path, tree in parsed(f"agents/{name}").items():
            found[path] = uses(tree, *others, "agents.commands", "agents.api", "ops")
    assert {path: names for path, names in found.items() if names} == {}


def test_imports_point_one_way() -> None:
    up = {path: uses(tree, "agents", "stores", "ops") for path, tree in parsed("topics").items()}
    up |= {path: uses(tree, "agents", "topics", "ops") for path, tree in parsed("stores").items()}
    above = (*processor_names(), *service_names(), "commands", "api")
    packages = [f"agents.{name}" for name in above]
    for beneath in ("engine", "services", "kit", "policy", "dlq", "tables"):
        up |= {p: uses(t, *packages, "ops") for p, t in parsed(f"agents/{beneath}").items()}
    assert {path: names for path, names in up.items() if names} == {}
    assert {path for path, tree in parsed("agents").items() if uses(tree, "ops")} == USE_OPS


def test_an_algorithm_imports_numpy_and_how_kernels_are_compiled() -> None:
    known = ("math", "typing", "collections.abc", "numpy", "topics.compiled")
    columnar = [name for name, one in processors().items() if one.in_loop]
    assert len(columnar) > 2  # those of rows are laws themselves: `fold` in their agent.py
    for name in columnar:
        tree = parsed("agents")[f"agents/{name}/rule.py"]
        assert imports(tree) - uses(tree, *known) == set(), name


def test_only_stores_speak_to_stores() -> None:
    found = {
        path
        for path, tree in everything().items()
        if path[:7] != "stores/" and uses(tree, *CLIENTS)
    }
    assert found == set(SPEAK_TO_STORES)


def test_one_module_says_how_kernels_are_compiled() -> None:
    assert {path for path, tree in everything().items() if uses(tree, "numba")} == set(KNOW_NUMBA)
    assert all(callable(getattr(compiled, name)) for name in KERNELS)


def test_one_module_hears_the_errors_of_single_partitions() -> None:
    """Of answers that have one for each: taken for an offset, an error is below 0."""
    found = {
        path
        for path, text in texts().items()
        if path.startswith(TOPS)
        and re.search(r"\.(?:offsets_for_times|committed)\(.*timeout", text)
    }
    assert found == {"topics/reading.py"}


def test_who_makes_an_aiokafka_client_loads_the_hooks_without_which_it_hangs() -> None:
    made = {
        path
        for path, tree in everything().items()
        for one in ast.walk(tree)
        if isinstance(one, ast.Call)
        and re.match(r"(?:\w+\.)*AIOKafka\w*(?:Client|Consumer|Producer)$", ast.unparse(one.func))
    }
    assert {"agents/api/owners.py", "agents/engine/producer.py", "topics/transactions.py"} <= made
    assert {path for path in made if not uses(everything()[path], "topics.connection")} == set()


def test_a_home_is_asked_for_where_its_lack_is_told() -> None:
    """And so is the user's name: in a container there may be neither."""
    asks = re.compile(r"getpass\.getuser|(?<!os\.path)\.expanduser\(|Path\.home\(")
    found = {path for path, text in texts().items() if path.startswith(TOPS) and asks.search(text)}
    assert found == {
        "agents/commands/actor.py",  # "unknown" then
        "agents/settings/fields.py",  # refused by the setting's name
        "ops/bench/journal.py",  # where a disk is measured
    }


def measured(measure: Callable[[Function], int]) -> dict[str, int]:
    """Each function's measure, by its file and name; the largest where several have one name."""
    found: dict[str, int] = {}
    for path, tree in everything().items():
        for one in functions(tree):
            name = f"{path}:{one.name}"
            found[name] = max(found.get(name, 0), measure(one))
    return found


def test_functions_fit_a_screen() -> None:
    assert {name: n for name, n in measured(lines).items() if n > LINES_MAX} == {}


def test_functions_take_few_parameters() -> None:
    many = {name: n for name, n in measured(parameters).items() if n > PARAMETERS_MAX}
    assert many == WITH_MANY_PARAMETERS


def test_old_words_dont_come_back() -> None:
    assert {Path(path).stem for path in texts()} & SAID_NOTHING == set()
    assert {path for path, text in texts().items() if OURS.search(text)} == set(SAY_THEM)


def test_files_that_are_named_are_there() -> None:
    here = {Path(path).name for path in texts()}
    gone = {
        f"{path}: {name}"
        for path, text in texts().items()
        if not path.startswith("tests/") and path != READERS
        for name in NAMED.findall(text)
        if not ((ROOT / name).exists() if "/" in name else name in here)
    }
    assert gone == set()


def test_topics_are_named_where_they_are_declared_and_ports_in_the_settings() -> None:
    declared = {f"agents/{name}/agent.py" for name in processor_names()} | {"topics/catalogue.py"}
    ports = set()
    for path, tree in everything().items():
        if path.startswith("ops/") and not path.startswith("ops/examples/"):
            continue
        for value, constant in literals(tree):
            if isinstance(value, int):
                ports.add(str(Path(path).parent))
            elif path not in declared:
                in_processor = path.split("/")[1] in processor_names()
                assert constant and not in_processor, f"{path}: {value}"
    assert ports == {"agents/settings"}


def test_numbers_of_laws_and_processors_have_names() -> None:
    names = (*processor_names(), "kit", "policy")
    folders = [*(f"agents/{name}" for name in names), "ops/examples"]
    found = {
        path: sorted(bare_numbers(tree))
        for folder in folders for path, tree in parsed(folder).items()
    }  # fmt: skip
    assert {path: numbers for path, numbers in found.items() if numbers} == BARE_NUMBERS


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("return a * 0.97", ["0.97"]),
        ("return 0.0 if a < 1 else -1 + 2.0 * a ** 0.5", []),
        ("return a if a > 3 else b[3], np.zeros((7, 64)), a // 4", ["3"]),
        ("return 4 * a <= (b + 3)", ["3", "4"]),
        ("return f(9) < a[5]", []),
        ("return a * 1000, a / 1e6, a > 1000", ["1000"]),
        ("return a[:40]", ["40"]),
        ("def g(): return 11\n    return g", ["11", "11"]),
        ("a = True", []),
    ],
)
def test_bare_numbers_are_seen(body: str, seen: list[str]) -> None:
    assert sorted(bare_numbers(ast.parse(f"def f(a, b=0.3):\n    {body}"))) == seen


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("def f():\n    from agents.outbox import relay", {"agents.outbox.relay"}),
        ("import asyncpg.pool", {"asyncpg.pool"}),
        ("from agents.outboxes import one", set()),
    ],
)
def test_imports_are_seen_wherever_they_stand(code: str, seen: set[str]) -> None:
    assert uses(ast.parse(code), "agents.outbox", "asyncpg") == seen


def test_names_of_files_are_seen() -> None:
    text = "see ops/RESTORE.md, laws.md (`plan.py`), [it](stores/a_b.sql); plan.py, $name/agent.py"
    assert NAMED.findall(text) == ["ops/RESTORE.md", "laws.md", "plan.py", "stores/a_b.sql"]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("service_rooms()", "_rooms"),
        ("the doors", "doors"),
        ("class OutboxDoor:", "Door"),
        ("Doors beside", "Doors"),
        ("relay.office", "office"),
        ("make room for more; has_room, bathroom, indoors, Doorn, official", None),
    ],
)
def test_old_words_are_seen_as_words_alone(text: str, seen: str | None) -> None:
    found = OURS.search(text)
    assert (found and found[0]) == seen


def test_what_is_too_large_is_seen() -> None:
    names = ", ".join(f"a{k}" for k in range(5))
    more = names.replace("a", "b")
    for before, many in (("", 10), ("@click.command()\n", 10), ("@entry\n", 0)):
        (one,) = functions(ast.parse(f"{before}async def f(self, {names}, *, {more}): pass"))
        assert parameters(one) == many
    (one,) = functions(ast.parse("def f():\n" + "    pass\n" * 70))
    assert lines(one) == 71


def test_literals_are_seen_with_where_they_stand() -> None:
    code = (
        "A = 'cog.segments'\ndef f(port=9092):\n    'cog.segments here'\n    return 'soma.epochs'"
    )
    assert sorted(map(str, literals(ast.parse(code)))) == [
        "('cog.segments', True)", "('soma.epochs', False)", "(9092, False)",
    ]  # fmt: skip
