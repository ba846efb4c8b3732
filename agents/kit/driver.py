"""Try a processor without a broker: `Driver(PROCESSOR)`, a test's way to drive it.

Records go the way that they go in a worker (decoded, checked, folded, encoded, framed), only that
nothing is sent. It is what Kafka Streams has in its TopologyTestDriver.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agents.engine.plan import Plan, defaults_of
from agents.engine.processor import SEP, Processor
from agents.kit.run import LOG_MS, Message, Run, Sent
from agents.kit.schema import SETTINGS, TOUCHED
from agents.kit.setting import EVERYONE
from agents.settings import Settings
from topics import codec
from topics.partition import partition_of

_KIT = (TOUCHED, SETTINGS)


@dataclass(frozen=True, slots=True)
class Written:
    """A record that the processor wrote; `record` is None for a deletion."""

    topic: str
    partition: int
    key: str
    record: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that it couldn't fold: why, and the bytes as they came."""

    reason: str
    detail: str
    key: bytes | None
    value: bytes | None


class Driver:
    """A processor on one partition of its source, its state, and what it has written so far.

    `partitions` is how many the topics have, `partition` the one that is driven (of several, only
    tenants that live there are folded). `settings` are the deployment's values. `time` is the log's
    time, in microseconds; it stands still until `tick`, or whoever sets it.

    >>> driver = Driver(PROCESSOR)                                       # doctest: +SKIP
    >>> driver.send({"tenant": "a", "ts": driver.time, "total": 1})      # doctest: +SKIP
    >>> driver.outputs[0].record["total"], driver.rows["a"]["total"]     # doctest: +SKIP
    (1, 1)
    """

    def __init__(
        self,
        processor: Processor,
        *,
        partitions: int = 1,
        partition: int = 0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        own = Settings(
            kafka_bootstrap="127.0.0.1:1", topics_partitions=partitions, namespace="",
            enable_cog_threads=True,
        )  # fmt: skip
        if unknown := sorted(set(settings or {}) - set(processor.settings)):
            raise ValueError(f"{processor.name} has no setting {', '.join(unknown)}")
        self._plan = Plan(processor, own, partitions)
        self._defaults = defaults_of(processor, own) | dict(settings or {})
        self._run = Run(self._plan, self._defaults, partition=partition)
        self._sinks = {sink.topic for sink in self._plan.sinks}
        self._outputs: list[Written] = []  # of the first `_read` records that were sent
        self._read = self._taken = 0
        self.time = LOG_MS * 1000

    # --- in -------------------------------------------------------------------------------

    def send(
        self, record: Mapping[str, Any], tenant: str | None = None, schema: str | None = None
    ) -> None:
        """Send a record of the source, in a transaction of its own.

        Its key is the record's tenant; `tenant` puts another into the record. `schema` names one of
        the source's further schemas. BadRecord if the record isn't of its schema.
        """
        self.send_all([record], tenant, schema)

    def send_all(
        self,
        records: Iterable[Mapping[str, Any]],
        tenant: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Send records in one transaction."""
        name = schema or self._plan.schema
        processor = self._plan.processor
        reads = processor.reads if schema is None else processor.kinds[schema]
        wire = []
        for record in records:
            full = dict(record) | ({} if tenant is None else {reads.tenant: tenant})
            wire.append((str(full[reads.tenant]).encode(), codec.encode(name, full)))
        self.send_bytes(wire)

    def send_bytes(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        """Send keys and values as they are, in one transaction: junk too."""
        part = [Message(self._run.next + k, *one) for k, one in enumerate(records)]
        self._run.feed([part], self.time // 1000)

    def setting(self, name: str, value: object, tenant: str = EVERYONE) -> None:
        """Set a setting in band, for a tenant or for all; "" takes it back. ValueError if refused.

        As `soma config set` does.
        """
        record = {
            "tenant": tenant, "setting": name, "value": str(value), "author": "driver",
            "ts": self.time,
        }  # fmt: skip
        dead = len(self.dead_letters)
        self.send_bytes([(tenant.encode(), codec.encode("control_setting", record))])
        if len(self.dead_letters) > dead:
            raise ValueError(self.dead_letters[-1].detail)

    def tick(self, time: int) -> None:
        """Let the wall time (microseconds) be this: timers that are due are called."""
        self.time = time
        self.send_bytes([(None, codec.encode("control_tick", {"ts": time}))])

    def restart(self) -> None:
        """End it, and begin anew from the bytes of its state topic, as after a crash."""
        rows = self._run.rows()
        self._run.restart(self._plan.processor.make(self._run.context))
        self._run.load(rows)

    # --- out ------------------------------------------------------------------------------

    @property
    def outputs(self) -> list[Written]:
        """Everything it has written to its sinks so far, in its order."""
        new = self._run.sent[self._read :]
        self._read += len(new)
        self._outputs += [_written(sent) for sent in new if sent.topic in self._sinks]
        return list(self._outputs)

    def take(self) -> list[Written]:
        """The outputs since the last call."""
        new = self.outputs[self._taken :]
        self._taken += len(new)
        return new

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Its state by key (a tenant, or "tenant/entity"), as the state topic has it."""
        found = {}
        for key, value in self._run.rows().items():
            row = codec.decode(value)[1]
            if row.get(TOUCHED, 1):  # 0: a row of settings alone
                name = key.decode().replace(SEP, "/")
                found[name] = {field: one for field, one in row.items() if field not in _KIT}
        return found

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What it couldn't fold, in its order."""
        found = []
        for sent in self._run.sent:
            if sent.topic == self._plan.dlq:
                said = {name: (text or b"").decode() for name, text in sent.headers}
                reason, detail = said.get("soma-reason", ""), said.get("soma-detail", "")
                found.append(DeadLetter(reason, detail, sent.key, sent.value))
        return found

    @property
    def counts(self) -> dict[str, int]:
        """What it has counted for metrics since it was started."""
        return dict(self._run.counted)

    def partition_of(self, tenant: str) -> int:
        """Where a tenant lives."""
        return partition_of(tenant, self._plan.partitions)


def _written(sent: Sent) -> Written:
    record = None if sent.value is None else codec.decode(sent.value)[1]
    return Written(sent.topic, sent.partition, (sent.key or b"").decode(), record)
