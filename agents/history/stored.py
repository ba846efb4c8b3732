"""The rows of a state topic's partition as they are stored, read on as it grows."""

from agents.engine.errors import UnknownVersion
from agents.engine.plan import Plan
from agents.engine.position import Position, read_position
from agents.engine.recovery import reader
from agents.engine.work import POSITION_KEY
from agents.history.errors import HistoryError
from agents.history.rows import Rows
from agents.settings import Settings
from topics.messages import as_bytes
from topics.reading import ends_of, read_to


class Stored:
    """The newest row of each key, and the position: of the same transactions."""

    def __init__(self, settings: Settings, plan: Plan, partition: int) -> None:
        self._settings, self._place = settings, (plan.state, partition)
        self._end = 0
        self.rows: Rows = {}
        self.position: Position | None = None

    def read_on(self) -> None:
        """To the end as it is now. HistoryError, KafkaException."""
        place = self._place
        consumer = reader(self._settings, "soma-history", [place], self._end)
        position: bytes | None = None
        try:
            ends = ends_of(consumer, [place], self._settings.answer_timeout_s)
            if ends[place] < self._end:
                raise HistoryError(f"{place[0]}/{place[1]} was made anew meanwhile")
            if ends[place] == self._end:
                return
            for messages in read_to(consumer, ends):
                for message in messages:
                    key, value = as_bytes(message.key()) or b"", as_bytes(message.value())
                    if key == POSITION_KEY:
                        position = value
                    elif value is None:
                        self.rows.pop(key, None)
                    else:
                        self.rows[key] = value
        finally:
            consumer.close()
        self._end = ends[place]
        if position is None:
            return
        try:
            self.position = read_position(position, place[0])
        except UnknownVersion as error:
            raise HistoryError(str(error)) from error


def stored(settings: Settings, plan: Plan, partition: int) -> Stored:
    """A partition's rows to their end as it is now. HistoryError, KafkaException."""
    found = Stored(settings, plan, partition)
    found.read_on()
    return found
