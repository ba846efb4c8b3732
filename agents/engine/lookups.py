"""Questions about a partition's state, answered between its transactions: nothing of what they see
is uncommitted.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from agents.engine.plan import Plan
from agents.engine.processor import Fold, StateRows
from agents.engine.sending import encode_rows
from agents.engine.workspace import empty_rows
from topics.columns import Buffer

Rows = dict[bytes, bytes]  # key -> value on the wire
_Found = TypeVar("_Found")
_Question = tuple[Callable[[Fold], object], "asyncio.Future[tuple[object, int]]"]


class Unanswered(Exception):
    """The partition isn't at work any more; the text says what became of it."""


@runtime_checkable
class ByTenant(Protocol):
    """A fold that finds a tenant's rows without looking at all."""

    def rows_of_tenant(self, tenant: str, rows: StateRows) -> None:
        """Write the rows of a tenant and its domains or entities into `rows`, which come empty.

        Only where nothing has changed since `Fold.changed`.
        """


class Lookups:
    """The questions that wait for a partition's next commit. For one event loop."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake, self._waiting = wake, list[_Question]()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    async def ask(self, look: Callable[[Fold], _Found]) -> tuple[_Found, int]:
        """What `look`, which runs in a thread, sees in the fold, and the offset it stands before.

        Unanswered. The caller says how long it waits.
        """
        future: asyncio.Future[tuple[_Found, int]] = asyncio.get_running_loop().create_future()
        self._waiting.append((look, future))  # type: ignore[arg-type]
        self._wake()
        return await future

    async def answer(self, fold: Fold, committed: int) -> None:
        """Answer all; nothing is folded meanwhile. What a look raises, its asker gets."""
        for one in self._waiting[:]:  # those that come meanwhile have the next turn
            look, future = one
            if not future.done():  # else whoever asked has given up
                looking = asyncio.ensure_future(asyncio.to_thread(look, fold))
                await asyncio.wait([looking])
                if not future.done():
                    _hand(looking, future, committed)
            if one in self._waiting:
                self._waiting.remove(one)

    def refuse(self, why: str) -> None:
        """Nobody answers: the fold is gone."""
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(Unanswered(why))


def _hand(
    looking: "asyncio.Future[object]", future: "asyncio.Future[tuple[object, int]]", at: int
) -> None:
    """Give what came of a look to whoever asked."""
    if (error := looking.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result((looking.result(), at))


def rows_of_tenant(plan: Plan, fold: Fold, tenant: str) -> Rows:
    """A tenant's rows (all, of a fold that can't tell them apart), from a fold at a commit."""
    rows, out = plan.state_rows(), Buffer()
    empty_rows(rows)
    if isinstance(fold, ByTenant):
        fold.rows_of_tenant(tenant, rows)
    else:
        fold.rows_all(rows)
    off = encode_rows(plan, rows, fold.names, out)
    found: Rows = {}
    for k in range(rows.n):
        if not rows.gone[k]:
            key = fold.names[rows.key_pos[k] :][: rows.key_len[k]].tobytes()
            found[key] = out.data[off[k] : off[k + 1]].tobytes()
    return found
