"""ledger.moves -> ledger.totals: what each tenant moved; beside `accounts`, on the same source.

It refuses other records than that does, and has a setting of the same name.
"""

from dataclasses import dataclass
from typing import Any

from agents.kit import Emit, Reads, Refuse, RowProcessor, Setting
from ops.prove.ledger import MOVES, TOTALS

UNLUCKY = 13  # transfers of whole multiples of it are refused


@dataclass(slots=True)
class Total:
    """What is known of a tenant."""

    deposits: int = 0
    transfers: int = 0
    amount: int = 0


def deposit(row: Total, record: Any, out: Emit) -> None:
    """Count a deposit."""
    row.deposits += 1
    tell(row, record, out)


def transfer(row: Total, record: Any, out: Emit) -> None:
    """Count a transfer, unless it is refused; which is found out last."""
    row.transfers += 1
    tell(row, record, out)
    if record.amount % UNLUCKY == 0:
        raise Refuse("an unlucky amount")


def tell(row: Total, record: Any, out: Emit) -> None:
    """Add the amount, and write a total for each n-th move."""
    row.amount += record.amount
    out.count("ledger_counted")
    if (row.deposits + row.transfers) % out.setting("every") == 0:
        out.to(TOTALS, {
            "tenant": record.tenant, "ts": record.ts, "number": record.number,
            "cause": record.source_id, "deposits": row.deposits, "transfers": row.transfers,
            "amount": row.amount,
        })  # fmt: skip


PROCESSOR = RowProcessor(
    "totals", source=MOVES, sinks=(TOTALS,), row=Total,
    folds={"ledger_deposit": deposit, "ledger_transfer": transfer}, reads=Reads(domain=None),
    settings={"every": Setting(3, "a total for each n-th move", 1, 1000)},
    counts={"ledger_counted": "Moves counted"},
)  # fmt: skip
