"""Writers of the outbox under test: hot keys, slow transactions, rollbacks, whatever happens.

    SOMA_POSTGRES_DSN=… python -m ops.prove.outbox_writers --namespace prove-7 --acknowledged FILE

Each transaction takes two of the keys, counts their versions up under a lock of their rows, and
adds an event for each; so a key's events are made one after the other, and ids of other keys
overtake a slow transaction. Writes what it saw committed to a file. Ends at SIGTERM, with its
counts as JSON.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, TextIO

import asyncpg

from ops.prove.outbox_check import SCHEMA, TOPIC
from ops.prove.wire import Wire

TENANTS = 7
RECONNECT_S = 0.1
# The database is away, or refuses for now. Outcomes of commits are then unknown, and needn't be.
PASSING = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError, TimeoutError,
           asyncpg.InternalClientError,  # a connection that broke in the middle of something
           asyncpg.OperatorInterventionError, asyncpg.LockNotAvailableError,
           # The database is being restored.
           asyncpg.InvalidCatalogNameError, asyncpg.ObjectNotInPrerequisiteStateError)  # fmt: skip
KEYS = "CREATE TABLE IF NOT EXISTS prove_keys (key text PRIMARY KEY, version integer NOT NULL)"
COUNT_UP = """
    INSERT INTO prove_keys VALUES ($1, 1)
    ON CONFLICT (key) DO UPDATE SET version = prove_keys.version + 1 RETURNING version
"""
ADD_JSON = "SELECT soma_outbox_add($1, $2, $3::jsonb, $4, $5, $6::jsonb)"
ADD_AVRO = "SELECT soma_outbox_add_avro($1, $2, $3, $4, $5, $6::jsonb)"


def event(tenant: str, key: str, version: int, dedupe_key: str) -> dict[str, Any]:
    """A memory_event that says which key and version it is; about 200 bytes."""
    return {
        "event_id": dedupe_key, "id": key, "tenant": tenant, "namespace": "prove",
        "type": "updated", "ts": time.time_ns() // 1000, "coordinate": key,
        "memory_type": "episodic",
        "payload": json.dumps({"key": key, "version": version, "text": "x" * 60}),
        "importance": None, "embedding": b"\0\0\0\x3f\0\0\x80\x3f", "model_revision": "",
        "links": {}, "dedupe_key": dedupe_key, "expected_version": None,
    }  # fmt: skip


def as_json(record: dict[str, Any]) -> str:
    """The record as users would write it."""
    stamp = datetime.fromtimestamp(record["ts"] // 1_000_000, UTC)
    ts = f"{stamp:%Y-%m-%dT%H:%M:%S}.{record['ts'] % 1_000_000:06d}+00:00"
    return json.dumps(record | {"ts": ts, "embedding": [0.5, 1.0]})


class Writers:
    """`count` tasks that write until `stop`."""

    def __init__(self, dsn: str, schema: str, given: argparse.Namespace, noted: TextIO) -> None:
        self.dsn, self.schema = dsn, schema
        self.seed, self.keys, self.slow = given.seed, given.keys, given.slow
        self.wire, self.counts, self.noted = Wire(), Counter[str](), noted
        self.stopping = False

    async def write(self, number: int, pause: float) -> None:
        """One writer."""
        random, connection = Random(f"{self.seed} {number}"), None
        while not self.stopping:
            try:
                if connection is None:
                    connection = await self.connect()
                await self._transaction(connection, random, number)
            except asyncpg.PostgresError as error:
                if error.sqlstate != "SO001" and not isinstance(error, PASSING):
                    raise
                self.counts["refused" if error.sqlstate == "SO001" else "interrupted"] += 1
                await self._lost(connection)
                connection = None
            except PASSING:
                self.counts["interrupted"] += 1
                await self._lost(connection)
                connection = None
            await asyncio.sleep(random.expovariate(1.0) * pause)
        if connection is not None:
            connection.terminate()

    async def connect(self) -> Any:
        """A connection whose statements find the outbox."""
        limits = {"search_path": f'"{self.schema}"', "lock_timeout": "10s"}
        return await asyncpg.connect(
            self.dsn, timeout=5.0, command_timeout=20.0, server_settings=limits
        )

    async def _lost(self, connection: Any) -> None:
        if connection is not None:
            connection.terminate()
        await asyncio.sleep(RECONNECT_S)

    async def _transaction(self, connection: Any, random: Random, number: int) -> None:
        # Always in one order, so that writers don't deadlock.
        chosen = sorted(random.sample(range(self.keys), 2))
        slow = random.random() < self.slow
        transaction = connection.transaction()
        await transaction.start()
        added = []
        for key in chosen:
            added.append(await self._add(connection, random, number, key))
            if slow:
                await asyncio.sleep(random.random() * 0.15)
        if random.random() < 0.05:
            await transaction.rollback()
            self.counts["rolled back"] += 1
            return
        try:
            await transaction.commit()
        except BaseException:
            self.noted.writelines(f"{tenant}\t{dedupe_key}\t?\n" for tenant, dedupe_key in added)
            raise
        self.noted.writelines(f"{tenant}\t{dedupe_key}\n" for tenant, dedupe_key in added)
        self.counts["committed"] += len(added)
        self.counts["slow"] += slow

    async def _add(self, connection: Any, random: Random, number: int, key: int) -> tuple[str, str]:
        tenant, name = f"tenant-{key % TENANTS}", f"key-{key}"
        version = await connection.fetchval(COUNT_UP, name)
        # One of a rolled back transaction never comes again.
        dedupe_key = f"{name}.{version}.{number}.{random.getrandbits(64):x}"
        record = event(tenant, name, version, dedupe_key)
        trace = f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"
        headers = json.dumps({"traceparent": trace}) if random.random() < 0.5 else None
        value: str | bytes
        if random.random() < 0.5:
            text, value = ADD_JSON, as_json(record)
        else:
            text, value = ADD_AVRO, self.wire.encode(SCHEMA, record)
        # Now and then twice, as one does who didn't hear the answer.
        for _ in range(2 if random.random() < 0.02 else 1):
            await connection.fetchval(text, TOPIC, tenant, value, dedupe_key, name, headers)
        return tenant, dedupe_key

    def stop(self) -> None:
        """Each finishes its transaction."""
        self.stopping = True


async def run(given: argparse.Namespace, dsn: str) -> Counter[str]:
    """Write until SIGTERM."""
    schema = f"soma_{given.namespace}" if given.namespace else "soma"
    with given.acknowledged.open("a") as noted:
        writers = Writers(dsn, schema, given, noted)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, writers.stop)
        connection = await writers.connect()
        await connection.execute(KEYS)
        await connection.close()
        await asyncio.gather(*(writers.write(n, given.pause) for n in range(given.writers)))
    return writers.counts


def main() -> int:
    """Command line; the database comes by SOMA_POSTGRES_DSN."""
    parser = argparse.ArgumentParser(prog="python -m ops.prove.outbox_writers", description=__doc__)
    parser.add_argument("--namespace", default="", help="SOMA_NAMESPACE of the relays")
    parser.add_argument("--acknowledged", type=Path, required=True, help="file for what committed")
    parser.add_argument("--writers", type=int, default=10)
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.005, help="mean s between transactions")
    parser.add_argument("--slow", type=float, default=0.1, help="share of slow transactions")
    parser.add_argument("--seed", type=int, default=7)
    dsn = os.environ.get("SOMA_POSTGRES_DSN", "")
    if not dsn:
        parser.error("set SOMA_POSTGRES_DSN to the outbox's database")
    counts = asyncio.run(run(parser.parse_args(), dsn))
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
