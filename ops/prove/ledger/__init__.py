"""Two processors of one source that use all that rows can: what `ops.prove.rows` kills.

Tenants have accounts; deposits and transfers come to `ledger.moves`. `accounts` keeps a row for
each account, `totals` one for each tenant.
"""

from pathlib import Path

from topics.plugins import Plugin
from topics.topic import COMPACTED, DAY_MS, Topic, source, state

MOVES = "ledger.moves"  # deposits and transfers
ENTRIES = "ledger.entries"  # what became of them, for who pays and for who is paid
NOTICES = "ledger.notices"  # accounts that were closed, told to every partition
BALANCES = "ledger.balances"  # by account; none once that is closed
TOTALS = "ledger.totals"

PLUGIN = Plugin(
    processors={
        "accounts": "ops.prove.ledger.accounts",
        "totals": "ops.prove.ledger.totals",
    },
    sources={"accounts": MOVES, "totals": MOVES},
    topics=(
        source(MOVES, "ledger_deposit", ("users",), ()),
        Topic(
            ENTRIES, "ledger_entry", "tenant, or tenant.account of who is paid", "its key",
            ("accounts",), ("operators",), retention_ms=7 * DAY_MS,
        ),
        Topic(
            NOTICES, "ledger_entry", "'*'", "every one", ("accounts",), ("operators",),
            retention_ms=7 * DAY_MS,
        ),
        Topic(
            BALANCES, "ledger_balance", "tenant.account", "its key", ("accounts",),
            ("operators",), cleanup="compact", config=COMPACTED,
        ),
        Topic(
            TOTALS, "ledger_total", "tenant", "tenant", ("totals",), ("operators",),
            retention_ms=7 * DAY_MS,
        ),
        state("accounts", "tenant 0x1f account"),
        state("totals", "tenant"),
    ),
    schemas=Path(__file__).parent / "avro",
)  # fmt: skip
