"""Why a record can't be folded: status codes of the engine, and their names in dead letters.

Code 0 is a good record. 1 to 4 are set by the columnar reader (topics.columns), the others here;
from ROOM_REASONS on they belong to the processor (`Processor.reasons`).
"""

from agents.engine.processor import ROOM_REASONS, Processor

OK = 0
BAD_WIRE = 1
UNKNOWN_SCHEMA = 2
BAD_AVRO = 3
BAD_UTF8 = 4
BAD_JSON = 10
NULL_VALUE = 11
TENANT = 12
DOMAIN = 13
TS_RANGE = 14
HOPS = 15
CONTROL_REFUSED = 16
BATCH = 17  # a whole record batch that lies about itself
TOO_LARGE = 18
LONG_STRING = 19
# Not reasons, but kinds of records on their way through:
JSON = 32
CONTROL = 33
MISROUTED = 34
DONE = 35  # a control record that was applied

NAMES = {
    BAD_WIRE: "bad_wire_format",
    UNKNOWN_SCHEMA: "unknown_schema",
    BAD_AVRO: "bad_avro",
    BAD_UTF8: "bad_utf8",
    BAD_JSON: "bad_json",
    NULL_VALUE: "null_value",
    TENANT: "bad_tenant",
    DOMAIN: "bad_domain",
    TS_RANGE: "ts_range",
    HOPS: "too_many_hops",
    CONTROL_REFUSED: "control_refused",
    BATCH: "bad_batch",
    TOO_LARGE: "too_large",
    LONG_STRING: "string_too_long",
}


def reason(processor: Processor, status: int) -> str:
    """The name of a status code, as it stands in a dead letter's header and in metrics."""
    if status >= ROOM_REASONS:
        return processor.reasons[status - ROOM_REASONS]
    return NAMES[status]
