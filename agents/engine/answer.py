"""What a processor says of a record that it can't fold."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What is said of a dead letter, in the partition where the record stood."""

    sink: str  # one of the processor's
    key: bytes  # the record's place, so that no output is compacted away by it
    record: Mapping[str, Any]
