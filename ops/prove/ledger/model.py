"""What the ledger's processors must make of a log: a count of our own, in plain dicts.

It shares fastavro and the schemas with the engine, the kit and the processors, and nothing else.
"""

import io
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fastavro

from ops.prove.partitions import home
from ops.prove.wire import Record
from topics.schemas import schemas

HEADER = 5  # bytes before the Avro
EVERYONE = "*"
DEFAULTS: dict[str, dict[str, tuple[int, int, int]]] = {  # setting -> default, least, most
    "accounts": {
        "every": (2, 1, 1000), "overdraft": (500, 0, 1_000_000_000),
        "idle_ms": (700, 100, 3_600_000), "forget_after_s": (2_592_000, 60, 315_360_000),
    },
    "totals": {"every": (3, 1, 1000), "forget_after_s": (2_592_000, 60, 315_360_000)},
}  # fmt: skip
KEEPER = "accounts"
ACCOUNT: dict[str, Any] = {
    "balance": 0, "moves": 0, "mean": 0.0, "recent": [], "peers": {}, "idle": 0, "due": None,
}  # fmt: skip
TOTAL: dict[str, Any] = {"deposits": 0, "transfers": 0, "amount": 0}
ENTRY: dict[str, Any] = {
    "number": -1, "cause": "", "amount": 0, "mean": 0.0, "recent": [], "peers": {},
}  # fmt: skip
MINUTE_US = 60_000_000

Row = dict[str, Any]
Output = tuple[str, int, str, Row | None]  # topic, partition, key, record


def decoded(value: bytes | None) -> tuple[str, Row]:
    """A record's schema and content. ValueError for what isn't one."""
    if not value or value[0] or len(value) < HEADER:
        raise ValueError("not on the wire")
    name, _, schema = schemas().by_id(int.from_bytes(value[1:HEADER], "big"))
    content = io.BytesIO(value[HEADER:])
    try:
        record: Any = fastavro.schemaless_reader(content, schema, None)
    except (EOFError, IndexError) as error:
        raise ValueError("cut") from error
    return name, dict(record)


class Books:
    """One processor's state and outputs, of one partition of the source."""

    def __init__(self, name: str, partition: int, partitions: int, prefix: str) -> None:
        """`prefix`: what stands before the offset in a record's id."""
        self.name, self.partition, self.partitions, self.prefix = (
            name,
            partition,
            partitions,
            prefix,
        )
        self.rows: dict[str, Row] = {}  # by the row's key
        self.own: dict[str, dict[str, str]] = {}  # tenant or '*' -> its settings
        self.outputs: list[Output] = []
        self.letters: list[tuple[int, str]] = []  # offset, reason
        self.counts: dict[str, list[int]] = defaultdict(list)  # -> offsets
        self.forwarded = self.folded = self.fired = self.forgotten = self.closed = 0
        self.log_ms = 0

    # --- the log --------------------------------------------------------------------------

    def take(self, record: Record) -> None:
        """The next record of the partition."""
        self.log_ms = record.log_ms
        try:
            schema, content = decoded(record.value)
        except ValueError:
            self._keep(record, "bad_avro")
            return
        if schema == "control_tick":
            self._tick(content["ts"])
        elif schema == "control_setting":
            self._control(record, content)
        elif (record.key or b"").decode() != content["tenant"] or not self._here(content["tenant"]):
            self.forwarded += self.name == KEEPER
        else:
            self._move(record, schema, content)

    def _here(self, tenant: str) -> bool:
        return home(tenant, self.partitions) == self.partition

    def _keep(self, record: Record, reason: str) -> None:
        """A dead letter that the source's keeper writes alone."""
        if self.name == KEEPER:
            self.letters.append((record.offset, reason))

    def _move(self, record: Record, schema: str, move: Row) -> None:
        """Fold a move into copies, which count unless it is refused."""
        move["id"] = f"{self.prefix}-{record.partition}-{record.offset}"
        self.changed: dict[str, Row | None] = {}
        said: list[Output] = []
        counted: list[str] = []
        law = deposit if schema == "ledger_deposit" else transfer
        if self.name == "totals":
            law = total
        if reason := law(self, move, said, counted):
            self.letters.append((record.offset, reason))
            return
        for key, row in self.changed.items():
            self.rows.pop(key, None)
            if row is not None:
                self.rows[key] = row
        self.closed += sum(topic == "ledger.balances" and not row for topic, _, _, row in said)
        self.outputs += said
        self.folded += 1
        for name in counted:
            self.counts[name].append(record.offset)

    def open(self, tenant: str, entity: str, blank: Row) -> Row:
        """A row that the move at hand changes."""
        key = f"{tenant}\x1f{entity}" if entity else tenant
        row = self.changed.get(key)
        if row is None:
            found = self.rows.get(key, blank)
            row = {name: v.copy() if isinstance(v, list | dict) else v for name, v in found.items()}
            self.changed[key] = row
        row["touched"] = self.log_ms
        return row

    # --- settings and time ----------------------------------------------------------------

    def setting(self, tenant: str, name: str) -> int:
        """A tenant's value."""
        for owner in (tenant, EVERYONE):
            if name in self.own.get(owner, {}):
                return int(self.own[owner][name])
        return DEFAULTS[self.name][name][0]

    def _control(self, record: Record, asked: Row) -> None:
        named = asked["processor"] or KEEPER
        if named not in DEFAULTS:
            self._keep(record, "control_refused")
        if named != self.name:
            return
        tenant, name, text = asked["tenant"], asked["setting"], asked["value"]
        if not self._may(tenant, name, text):
            self.letters.append((record.offset, "control_refused"))
            return
        own = {one: value for one, value in self.own.pop(tenant, {}).items() if one != name}
        own |= {name: text} if text else {}
        if own:
            self.own[tenant] = own

    def _may(self, tenant: str, name: str, text: str) -> bool:
        if (tenant != EVERYONE and not self._here(tenant)) or name not in DEFAULTS[self.name]:
            return False
        _, least, most = DEFAULTS[self.name][name]
        return not text or (text.isdigit() and least <= int(text) <= most)

    def _tick(self, now: int) -> None:
        due = [(row["due"], key) for key, row in self.rows.items() if row.get("due") is not None]
        for _, key in sorted(one for one in due if one[0] <= now):
            self.fired += 1
            idle(self, key, now)
        minute = now - now % MINUTE_US
        for key, row in list(self.rows.items()):
            after = self.setting(key.partition("\x1f")[0], "forget_after_s")
            late = row["touched"] * 1000 + after * 1_000_000 <= minute
            if row.get("due") is None and late:
                del self.rows[key]
                self.forgotten += 1

    def table(self) -> dict[str, Row]:
        """The state topic, by key: rows, and the settings of whoever has some."""
        blank = {"touched": 0, **(ACCOUNT if self.name == "accounts" else TOTAL)}
        return {
            key: {**self.rows.get(key, blank), "settings": self.own.get(key, {})}
            for key in self.rows.keys() | self.own.keys()
        }


Law = Callable[[Books, Row, list[Output], list[str]], str]


def _key(move: Mapping[str, Any], account: str) -> str:
    return f"{move['tenant']}.{account}"


def _noted(books: Books, move: Row) -> Row:
    row = books.open(move["tenant"], move["account"], ACCOUNT)
    row["moves"] += 1
    row["mean"] += (move["amount"] - row["mean"]) / row["moves"]
    row["recent"] = [*row["recent"], move["amount"]][-4:]
    row["idle"] = 0
    row["due"] = (books.log_ms + books.setting(move["tenant"], "idle_ms")) * 1000
    return row


def _entry(move: Row, kind: str, account: str, balance: int, row: Row | None = None) -> Row:
    entry = ENTRY | {
        "tenant": move["tenant"], "account": account, "ts": move["ts"], "kind": kind,
        "number": move["number"], "cause": move["id"], "amount": move["amount"],
        "balance": balance,
    }  # fmt: skip
    if row is not None:
        entry |= {"mean": row["mean"], "recent": list(row["recent"]), "peers": dict(row["peers"])}
    return entry


def deposit(books: Books, move: Row, said: list[Output], counted: list[str]) -> str:
    """Returns why it is refused, if it is."""
    row = _noted(books, move)
    row["balance"] += move["amount"]
    counted.append("ledger_deposits")
    if row["moves"] % books.setting(move["tenant"], "every") == 0:
        entry = _entry(move, "deposit", move["account"], row["balance"], row)
        said.append(("ledger.entries", books.partition, move["tenant"], entry))
    return "negative" if move["amount"] < 0 else ""


def transfer(books: Books, move: Row, said: list[Output], counted: list[str]) -> str:
    """Returns why it is refused, if it is."""
    tenant, account, to, amount = (move[name] for name in ("tenant", "account", "to", "amount"))
    books.open(tenant, to, ACCOUNT)
    row = _noted(books, move)
    other = books.open(tenant, to, ACCOUNT)
    row["balance"] -= amount
    other["balance"] += amount
    other["due"] = row["due"]
    row["peers"][to] = row["peers"].get(to, 0) + 1
    while len(row["peers"]) > 5:
        del row["peers"][min(row["peers"])]
    counted.append("ledger_transfers")
    entry = _entry(move, "paid", account, row["balance"], row)
    said.append(("ledger.entries", books.partition, tenant, entry))
    got, key = _entry(move, "received", to, other["balance"]), _key(move, to)
    said.append(("ledger.entries", home(key, books.partitions), key, got))
    key = _key(move, account)
    balance = {
        "tenant": tenant, "account": account, "ts": move["ts"], "balance": row["balance"]
    }  # fmt: skip
    said.append(("ledger.balances", home(key, books.partitions), key, balance))
    if row["balance"] < -books.setting(tenant, "overdraft"):
        return "refused"
    if move["closes"]:
        _close(books, tenant, account, row["balance"], move["ts"], said)
        books.changed[f"{tenant}\x1f{account}" if account else tenant] = None
    return ""


def _close(
    books: Books, tenant: str, account: str, balance: int, ts: int, said: list[Output]
) -> None:
    notice = ENTRY | {
        "tenant": tenant, "account": account, "ts": ts, "kind": "closed", "balance": balance
    }  # fmt: skip
    said += [("ledger.notices", to, EVERYONE, notice) for to in range(books.partitions)]
    key = f"{tenant}.{account}"
    said.append(("ledger.balances", home(key, books.partitions), key, None))


def idle(books: Books, key: str, now: int) -> None:
    """A timer of an account."""
    row = books.rows[key]
    tenant, _, account = key.partition("\x1f")
    row["due"] = None
    row["idle"] += 1
    entry = ENTRY | {
        "tenant": tenant, "account": account, "ts": now, "kind": "idle", "amount": row["idle"],
        "balance": row["balance"], "mean": row["mean"], "recent": list(row["recent"]),
        "peers": dict(row["peers"]),
    }  # fmt: skip
    books.outputs.append(("ledger.entries", books.partition, tenant, entry))
    if row["idle"] < 3:
        row["due"] = now + books.setting(tenant, "idle_ms") * 1000 * (row["idle"] + 1)
    elif row["balance"] <= 0:
        _close(books, tenant, account, row["balance"], now, books.outputs)
        del books.rows[key]


def total(books: Books, move: Row, said: list[Output], counted: list[str]) -> str:
    """Returns why it is refused, if it is."""
    row = books.open(move["tenant"], "", TOTAL)
    paid = "to" in move
    row["transfers" if paid else "deposits"] += 1
    row["amount"] += move["amount"]
    counted.append("ledger_counted")
    if (row["deposits"] + row["transfers"]) % books.setting(move["tenant"], "every") == 0:
        record = {name: move[name] for name in ("tenant", "ts", "number")} | {
            "cause": move["id"], "deposits": row["deposits"], "transfers": row["transfers"],
            "amount": row["amount"],
        }  # fmt: skip
        said.append(("ledger.totals", books.partition, move["tenant"], record))
    return "refused" if paid and move["amount"] % 13 == 0 else ""


def folded(log: Sequence[Record], name: str, ends: Sequence[int], prefix: str) -> list[Books]:
    """A processor's books of each partition, up to the offsets where it is. `log` in its order."""
    books = [Books(name, partition, len(ends), prefix) for partition in range(len(ends))]
    for record in log:
        if record.offset < ends[record.partition]:
            books[record.partition].take(record)
    return books
