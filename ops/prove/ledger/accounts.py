"""ledger.moves -> entries, notices and balances of accounts: a processor that uses all there is.

Entities and other rows, several schemas, a timer, settings, lists and maps, outputs with keys, to
every partition and deletions, counts, and refusals that come after everything else.
"""

from dataclasses import dataclass, field
from typing import Any

from agents.kit import Emit, Reads, Refuse, RowProcessor, Setting
from ops.prove.ledger import BALANCES, ENTRIES, MOVES, NOTICES

RECENT = 4  # amounts that a row remembers
PEERS = 5  # accounts that a row remembers having paid
IDLE = 3  # calls of the timer after which an account without money is closed
MS = 1000  # microseconds


@dataclass(slots=True)
class Account:
    """What is known of an account."""

    balance: int = 0
    moves: int = 0
    mean: float = 0.0  # of the amounts
    recent: list[int] = field(default_factory=list)
    peers: dict[str, int] = field(default_factory=dict)
    idle: int = 0  # calls of the timer since the last move
    due: int | None = None


def deposit(row: Account, record: Any, out: Emit) -> None:
    """Money comes in; not less than none, as is found out last."""
    note(row, record, out)
    row.balance += record.amount
    out.count("ledger_deposits")
    if row.moves % out.setting("every") == 0:
        tell(row, record, "deposit", out)
    if record.amount < 0:
        raise Refuse(f"a deposit of {record.amount}", "negative")


def transfer(row: Account, record: Any, out: Emit) -> None:
    """Money goes to another account of the tenant, or to this very one."""
    other = out.row(record.to)
    note(row, record, out)
    row.balance -= record.amount
    other.balance += record.amount
    other.due = row.due
    row.peers[record.to] = row.peers.get(record.to, 0) + 1
    while len(row.peers) > PEERS:
        del row.peers[min(row.peers)]
    out.count("ledger_transfers")
    tell(row, record, "paid", out)
    paid = {
        "tenant": record.tenant, "account": record.to, "ts": record.ts, "kind": "received",
        "number": record.number, "cause": record.source_id, "amount": record.amount,
        "balance": other.balance,
    }  # fmt: skip
    out.to(ENTRIES, paid, key=f"{record.tenant}.{record.to}")
    keep(row, record.account, record.ts, out)
    if row.balance < -out.setting("overdraft"):
        raise Refuse(f"a balance of {row.balance}")
    if record.closes:
        close(row, record.ts, out)


def on_time(row: Account, now: int, out: Emit) -> None:
    """Nothing came for a while: say so, each time later; and close it when nothing is in it."""
    row.idle += 1
    out.count("ledger_idle")
    entry = {
        "tenant": out.tenant, "account": out.entity, "ts": now, "kind": "idle",
        "amount": row.idle, "balance": row.balance, "mean": row.mean, "recent": row.recent,
        "peers": row.peers,
    }  # fmt: skip
    out.to(ENTRIES, entry)
    if row.idle < IDLE:
        row.due = now + out.setting("idle_ms") * MS * (row.idle + 1)
    elif row.balance <= 0:
        close(row, now, out)


def note(row: Account, record: Any, out: Emit) -> None:
    """What each move changes."""
    row.moves += 1
    row.mean += (record.amount - row.mean) / row.moves
    row.recent.append(record.amount)
    del row.recent[:-RECENT]
    row.idle = 0
    row.due = (record.log_ms + out.setting("idle_ms")) * MS


def tell(row: Account, record: Any, kind: str, out: Emit) -> None:
    """An entry for who makes the move: all that is known."""
    out.to(ENTRIES, {
        "tenant": record.tenant, "account": record.account, "ts": record.ts, "kind": kind,
        "number": record.number, "cause": record.source_id, "amount": record.amount,
        "balance": row.balance, "mean": row.mean, "recent": row.recent, "peers": row.peers,
    })  # fmt: skip


def keep(row: Account, account: str, ts: int, out: Emit) -> None:
    """The balance, by its account."""
    record = {"tenant": out.tenant, "account": account, "ts": ts, "balance": row.balance}
    out.to(BALANCES, record, key=f"{out.tenant}.{account}")


def close(row: Account, ts: int, out: Emit) -> None:
    """Forget the account, here and in the balances, and tell everybody."""
    out.everywhere(NOTICES, {
        "tenant": out.tenant, "account": out.entity, "ts": ts, "kind": "closed",
        "balance": row.balance,
    }, key="*")  # fmt: skip
    out.delete(BALANCES, f"{out.tenant}.{out.entity}")
    out.forget()


PROCESSOR = RowProcessor(
    "accounts", source=MOVES, sinks=(ENTRIES, NOTICES, BALANCES), row=Account,
    folds={"ledger_deposit": deposit, "ledger_transfer": transfer},
    key="account", on_time=on_time, reads=Reads(domain=None),
    settings={
        "every": Setting(2, "an entry for each n-th move, of deposits", 1, 1000),
        "overdraft": Setting(500, "what an account may owe", 0, 1_000_000_000),
        "idle_ms": Setting(700, "without a move until an account is idle", 100, 3_600_000),
    },
    reasons={"negative": "its amount is less than nothing"},
    counts={
        "ledger_deposits": "Deposits taken",
        "ledger_transfers": "Transfers made",
        "ledger_idle": "Timers of idle accounts",
    },
)  # fmt: skip
