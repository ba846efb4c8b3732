"""The service `canary`: measures the groups of the canaries that are under way, and tells.

The members of its group share the partitions of the processor's rows; who has a row measures for
it. The processor takes each block once, so that two who measure for a moment do no harm, and
whoever comes after one that was killed goes on where the row is.
"""

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

from agents.canary.agent import BLOCK_SCHEMA, COMMANDS, FRAMES, PROCESSOR, SEGMENTS, STATE
from agents.canary.state import ACTIVE, MEASURING
from agents.canary.watch import Watch, record_of
from agents.engine.errors import UnknownVersion
from agents.engine.work import POSITION_KEY
from agents.services.base import Service
from agents.services.stream import consumer_of
from agents.settings import Settings
from topics import codec
from topics.reading import PASSED

NAME = "canary"
TURN_S = 0.2
READ_MAX = 1000  # rows a turn

logger = logging.getLogger(__name__)


class CanaryService(Service):
    """Measures from `start` to `stop`."""

    topics = (COMMANDS, STATE, FRAMES, SEGMENTS)

    def __init__(self, settings: Settings) -> None:
        super().__init__(NAME)
        self._settings = settings
        self._rows: dict[int, dict[str, dict[str, Any]]] = {}  # partition -> setting -> row
        self._watches: dict[str, Watch] = {}  # by setting
        # (partition, setting) -> why; replaced whole, never changed: other threads look.
        self._unread: Mapping[tuple[int, str], str] = {}
        self._waits = self._lacks = ""

    def waits(self) -> str:
        return self._lacks or self._waits

    def work(self) -> None:
        rows = consumer_of(self._settings, NAME)
        producer = Producer(
            self._settings.librdkafka(
                enable_idempotence=True, acks="all", partitioner="murmur2_random"
            )
        )
        rows.subscribe(
            [self._settings.topic(STATE)], on_assign=self._given, on_revoke=self._taken,
            on_lost=self._taken,
        )  # fmt: skip
        try:
            while not self.stopping.is_set():
                self._turn(rows, producer)
        finally:
            for watch in self._watches.values():
                watch.close()
            producer.flush(2.0)
            rows.close()

    def _given(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """Rows are read from the beginning: there is one for each setting that had a canary."""
        for one in places:
            one.offset = OFFSET_BEGINNING
            self._rows[one.partition] = {}
        consumer.assign(places)

    def _taken(self, _: Consumer, places: list[TopicPartition]) -> None:
        for one in places:
            self._rows.pop(one.partition, None)
            left = {at: why for at, why in self._unread.items() if at[0] != one.partition}
            self._unread = left

    def _turn(self, rows: Consumer, producer: Producer) -> None:
        """Hear which canaries there are, and tell what was seen of each."""
        for message in rows.consume(READ_MAX, TURN_S):
            key, value = message.key(), message.value()
            if (error := message.error()) is not None:
                if error.code() not in PASSED:
                    self._lacks = f"the broker, for the rows of canaries: {error.str()}"
                continue
            if not isinstance(key, bytes) or key == POSITION_KEY:
                continue
            self._lacks = ""
            given = value if isinstance(value, bytes) else None
            self.hear(message.partition() or 0, key.decode(), given)
        try:
            self._follow(self.wanted)
            self._waits = ""
        except KafkaException as error:  # the next turn asks again
            self._waits = f"the broker, for canaries: {error.args[0].str()}"
        for watch in self._watches.values():
            watch.read(TURN_S)
            before, blocks = watch.told()
            if blocks:
                record = record_of(watch.name, watch.id, before, blocks, watch.groups)
                producer.produce(
                    self._settings.topic(COMMANDS), key=watch.name.encode(),
                    value=codec.encode(BLOCK_SCHEMA, record),
                )  # fmt: skip
        producer.poll(0)

    def hear(self, partition: int, name: str, value: bytes | None) -> None:
        """Take in the row of a setting's canary; None: there is none any more.

        One that this version can't read isn't measured here, and is named; the others are.
        """
        known, place = self._rows.setdefault(partition, {}), (partition, name)
        known.pop(name, None)
        self._unread = {one: why for one, why in self._unread.items() if one != place}
        if value is None:
            return
        try:
            schema, row = codec.decode(value)
            if schema != PROCESSOR.state_schema:
                raise codec.BadRecord("unknown_schema", f"it is a {schema}")
        except codec.BadRecord as error:
            logger.error(
                "the canary of %s isn't measured: its row can't be read (%s): a newer version "
                "wrote it? Update this worker", name, error.detail,
            )  # fmt: skip
            self._unread = {**self._unread, place: UnknownVersion.name}
            return
        if row["state"] in ACTIVE:
            known[name] = row | {"name": name}

    @property
    def wanted(self) -> dict[str, dict[str, Any]]:
        """The rows of the canaries that are under way, by setting."""
        return {name: row for known in self._rows.values() for name, row in known.items()}

    def stopped(self) -> Mapping[str, str]:
        return {f"{NAME} of {name}": why for (_, name), why in self._unread.items()}

    def _follow(self, wanted: dict[str, dict[str, Any]]) -> None:
        """A watch for each canary that is under way, and none for others."""
        for name in [one for one, watch in self._watches.items() if _gone(watch, wanted.get(one))]:
            self._watches.pop(name).close()
        for name, row in wanted.items():
            if name not in self._watches:
                self._watches[name] = Watch(self._settings, row)
            elif row["state"] != MEASURING:
                self._watches[name].put_on(row)


def _gone(watch: Watch, row: dict[str, Any] | None) -> bool:
    return row is None or row["id"] != watch.id


def services(settings: Settings) -> list[Service]:
    """The one that measures."""
    return [CanaryService(settings)]


assert PROCESSOR.state_topic == STATE
