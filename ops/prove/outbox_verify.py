"""The verifier of the outbox: compares table and topic, and shares no code with the relay.

    SOMA_POSTGRES_DSN=postgresql://… python -m ops.prove.outbox_verify \
        --bootstrap 127.0.0.1:9092 --namespace prove-7

Exit status 0 means: every committed event is in the topic once, as it was written, in the order of
its key; nothing else is there; and nothing waits.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from ops.prove.outbox_check import TOPIC, Name, Row, Verdict, in_order, judge
from ops.prove.reader import physical, read_all

ROWS = """
    SELECT id, tenant_id, key, dedupe_key, payload::text, value, headers ->> 'traceparent'
    FROM outbox_events WHERE topic = $1
"""
# The queue itself, and what the view tells people.
WAITING = """
    SELECT greatest((SELECT count(*) FROM outbox_queue),
                    (SELECT count(*) FROM outbox WHERE status <> 'sent'))
"""


async def read_table(dsn: str, schema: str) -> tuple[list[Row], int]:
    """Every committed event, and how many of them wait."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": f'"{schema}"'})
    try:
        rows = [Row(*row) for row in await connection.fetch(ROWS, TOPIC)]
        return rows, int(await connection.fetchval(WAITING))
    finally:
        await connection.close()


def verify(
    bootstrap: str, namespace: str, dsn: str, acknowledged: Path | None, aged: bool = False,
    restored: bool = False,
) -> Verdict:  # fmt: skip
    """Read all of both, and judge."""
    rows, waiting = asyncio.run(read_table(dsn, f"soma_{namespace}" if namespace else "soma"))
    records = in_order(list(read_all(bootstrap, physical(namespace, TOPIC))))
    names = _names(acknowledged, restored)
    verdict = judge(rows, records, names, aged=aged, restored=restored)
    verdict.waiting = waiting
    return verdict


def _names(file: Path | None, unsure: bool) -> Iterator[Name]:
    """What the writers saw committed: lines of tenant, tab, dedupe key.

    With `unsure` those as well (and a `?`) of which nobody knows whether they were.
    """
    if file is not None:
        for line in file.read_text().splitlines():
            tenant, dedupe_key, *mark = line.split("\t")
            if unsure or not mark:
                yield tenant, dedupe_key


def main() -> int:
    """Command line; the database comes by SOMA_POSTGRES_DSN, for it holds a password."""
    parser = argparse.ArgumentParser(prog="python -m ops.prove.outbox_verify", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="the broker, host:port")
    parser.add_argument("--namespace", default="", help="SOMA_NAMESPACE of the relays")
    parser.add_argument("--acknowledged", type=Path, help="what writers saw committed")
    parser.add_argument("--aged", action="store_true", help="old rows have left the table")
    parser.add_argument("--restored", action="store_true", help="the database went back in time")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    dsn = os.environ.get("SOMA_POSTGRES_DSN", "")
    if not dsn:
        parser.error("set SOMA_POSTGRES_DSN to the outbox's database")
    verdict = verify(
        options.bootstrap, options.namespace, dsn, options.acknowledged, options.aged,
        options.restored,
    )  # fmt: skip
    if not options.json:
        print(verdict.line())
    print(json.dumps(verdict.as_json()))
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
