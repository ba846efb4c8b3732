"""Kafka's requests about transactions that the client libraries lack (KIP-664), for aiokafka's.

Field by field as in Kafka's DescribeProducersRequest.json and its like; each in its first flexible
version. The classes that they build on are aiokafka's own: a contract test pins them.
"""

# mypy: disable-error-code="misc"
# aiokafka carries no types for us: its classes are Any.
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

_TEXT = CompactString("utf-8")
_TAGS = ("tags", TaggedFields)
_PLACES = CompactArray(("name", _TEXT), ("partitions", CompactArray(Int32)), _TAGS)


class DescribeProducersResponse(Response):
    """Of the leader of partitions: who has written there lately, and whose transaction is open."""

    API_KEY = 61
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("topics", CompactArray(
            ("name", _TEXT),
            ("partitions", CompactArray(
                ("partition", Int32), ("error_code", Int16), ("error_message", _TEXT),
                ("producers", CompactArray(
                    ("producer_id", Int64), ("epoch", Int32), ("last_sequence", Int32),
                    ("last_ms", Int64), ("coordinator_epoch", Int32), ("first_offset", Int64),
                    _TAGS,
                )),
                _TAGS,
            )),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class ListTransactionsResponse(Response):
    """Of one broker: the transactional ids that it coordinates."""

    API_KEY = 66
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32), ("error_code", Int16), ("unknown_filters", CompactArray(_TEXT)),
        ("transactions", CompactArray(
            ("transactional_id", _TEXT), ("producer_id", Int64), ("state", _TEXT), _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class DescribeTransactionsResponse(Response):
    """Of the coordinator: what a transaction does, and where."""

    API_KEY = 65
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_ms", Int32),
        ("transactions", CompactArray(
            ("error_code", Int16), ("transactional_id", _TEXT), ("state", _TEXT),
            ("timeout_ms", Int32), ("start_ms", Int64), ("producer_id", Int64), ("epoch", Int16),
            ("places", _PLACES), _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class WriteTxnMarkersResponse(Response):
    """Of the leader of partitions: whether the markers are written."""

    API_KEY = 27
    API_VERSION = 1
    SCHEMA = Schema(
        ("markers", CompactArray(
            ("producer_id", Int64),
            ("topics", CompactArray(
                ("name", _TEXT),
                ("partitions", CompactArray(("partition", Int32), ("error_code", Int16), _TAGS)),
                _TAGS,
            )),
            _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


class DescribeProducersStruct(RequestStruct):
    """Fields: topics."""

    API_KEY = 61
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeProducersResponse
    SCHEMA = Schema(("topics", _PLACES), _TAGS)


class ListTransactionsStruct(RequestStruct):
    """Fields: states and producer ids to filter by; none: all."""

    API_KEY = 66
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = ListTransactionsResponse
    SCHEMA = Schema(("states", CompactArray(_TEXT)), ("producer_ids", CompactArray(Int64)), _TAGS)


class DescribeTransactionsStruct(RequestStruct):
    """Fields: transactional ids."""

    API_KEY = 65
    API_VERSION = 0
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = DescribeTransactionsResponse
    SCHEMA = Schema(("transactional_ids", CompactArray(_TEXT)), _TAGS)


class WriteTxnMarkersStruct(RequestStruct):
    """Fields: markers."""

    API_KEY = 27
    API_VERSION = 1
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = WriteTxnMarkersResponse
    SCHEMA = Schema(
        ("markers", CompactArray(
            ("producer_id", Int64), ("epoch", Int16), ("commit", Boolean), ("topics", _PLACES),
            ("coordinator_epoch", Int32), _TAGS,
        )),
        _TAGS,
    )  # fmt: skip


def _keep(self: Any, *fields: object) -> None:
    """A request's fields, ready; each level ends with its tags, of which we give none."""
    self.fields = fields


def _build(self: Any, struct: type[RequestStruct]) -> Any:
    return struct(*self.fields, {})


class DescribeProducers(Request[DescribeProducersStruct]):
    """Ask leaders."""

    API_KEY = 61
    __init__, build = _keep, _build


class ListTransactions(Request[ListTransactionsStruct]):
    """Ask every broker."""

    API_KEY = 66
    __init__, build = _keep, _build


class DescribeTransactions(Request[DescribeTransactionsStruct]):
    """Ask coordinators."""

    API_KEY = 65
    __init__, build = _keep, _build


class WriteTxnMarkers(Request[WriteTxnMarkersStruct]):
    """Tell leaders."""

    API_KEY = 27
    __init__, build = _keep, _build
