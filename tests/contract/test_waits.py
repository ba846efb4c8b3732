"""Every wait has a deadline: what blocks a thread until another does something may block for ever.

Of what can wait without one, only what is called without one is found: by the name of the method,
outside of `async def`, where the same names are those of an event loop's own futures.
"""

import ast
import re

import pytest

from tests.contract.test_house import ROOT, TOPS

WAITS = {"acquire", "get", "join", "result", "wait"}  # given nothing, for ever
MAY = re.compile(r"\.(?:acquire|get|join|result|wait)\(\s*(?:\)|\w+=)|communicate|subprocess")
RUNS = {"call", "check_call", "check_output", "run"}  # of `subprocess`
FOR_GOOD = {
    "agents/engine/lookups.py:_hand: looking.result()": "an event loop's, and done",
    "ops/bench/outbox_relay.py:count: rows.result()": "an event loop's, and done",
    # Of a thread that ends with the process: it reads on when there was an answer.
    "agents/mcp/lines.py:each: asyncio.run_coroutine_threadsafe(take(line), loop).result()": "",
    "agents/mcp/lines.py:_write_all: self._writes.get()": "likewise",
    "agents/tools/rows.py:csv_rows: source.wait()": "waits for nothing: says that more may come",
}


def unbounded(tree: ast.AST) -> list[str]:
    """Calls that may wait for ever, each behind the name of the function in which it stands."""
    found: list[str] = []
    _look(tree, "", False, found)
    return found


def _look(node: ast.AST, function: str, in_loop: bool, found: list[str]) -> None:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            _look(child, child.name, isinstance(child, ast.AsyncFunctionDef), found)
            continue
        if isinstance(child, ast.Call) and not in_loop and _waits(child):
            found.append(f"{function}: {ast.unparse(child)}")
        _look(child, function, in_loop and not isinstance(child, ast.Lambda), found)


def _waits(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or "timeout" in {one.arg for one in call.keywords}:
        return False
    name, whose = call.func.attr, ast.unparse(call.func.value)
    if name == "communicate" or (whose == "subprocess" and name in RUNS):
        return True
    return name in WAITS and not call.args


def test_what_blocks_a_thread_has_a_deadline() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{one}"
        for top in TOPS
        for path in sorted((ROOT / top).rglob("*.py"))
        if MAY.search(text := path.read_text("utf-8"))  # few do: parsing takes long
        for one in unbounded(ast.parse(text))
    }
    assert found == set(FOR_GOOD)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("asyncio.run_coroutine_threadsafe(a, loop).result()", 1),
        ("asyncio.run_coroutine_threadsafe(a, loop).result(3); one.get(block=True)", 1),
        ("thread.join(); ', '.join(a); thread.join(timeout=2)", 1),
        ("queue.get(); a.get('b'); queue.get(timeout=1); queue.get_nowait()", 1),
        ("event.wait(); event.wait(2)", 1),
        ("lock.acquire(); lock.acquire(timeout=1)", 1),
        ("process.wait(); process.communicate(); process.communicate(b'', timeout=3)", 2),
        ("subprocess.run(['a']); subprocess.run(['a'], timeout=3); asyncio.run(a)", 1),
        ("subprocess.check_output(['a'], check=True)", 1),
    ],
)
def test_waits_without_a_deadline_are_seen(body: str, seen: int) -> None:
    assert len(unbounded(ast.parse(f"def f():\n    {body}"))) == seen
    assert MAY.search(body)
    assert unbounded(ast.parse(f"async def f():\n    {body}")) == []
    inside = f"async def f():\n    def g():\n        {body}\n    return lambda: one.result()"
    assert len(unbounded(ast.parse(inside))) == seen + 1
