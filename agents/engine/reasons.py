"""Why a record can't be folded: status codes of the engine, and their names in dead letters.

Code 0 is a good record. 1 to 4 are set by the columnar reader (topics.columns), the others here;
from OWN_REASONS on they belong to the processor (`Processor.reasons`).
"""

from agents.engine.processor import OWN_REASONS, Processor

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
LAW_FAILED = 20
# Not reasons, but kinds of records on their way through:
JSON = 32
CONTROL = 33
MISROUTED = 34
DONE = 35  # a control record that was applied

# What a processor finds out that isn't the keeper of its source: the others the keeper tells.
OWN = (CONTROL_REFUSED, LAW_FAILED)

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
    LAW_FAILED: "law_failed",
}

# What a dead letter says where nothing is known of its record but the code: kernels give no more.
DETAILS = {
    BAD_WIRE: "neither the Confluent wire format (0, 4 bytes of the schema's id, Avro) nor JSON",
    UNKNOWN_SCHEMA: "the schema's id isn't one of this topic's",
    BAD_AVRO: "not a record of the schema that it names, or more bytes than that",
    BAD_UTF8: "a text that isn't UTF-8",
    BAD_JSON: "not a JSON object of the topic's schema",
    NULL_VALUE: "the value is null: this topic has no tombstones",
    TENANT: "tenant: 1-128 of [A-Za-z0-9._-]",
    DOMAIN: "domain: 1-128 of [A-Za-z0-9._-]",
    TS_RANGE: "ts: before 2000-01-01, or more than an hour ahead of the log's time",
    HOPS: "forwarded to its tenant's partition too often: who writes it back there?",
    CONTROL_REFUSED: "a control record that can't act here",
    BATCH: "a record batch that isn't what it says",
    TOO_LARGE: "too large to be forwarded to its tenant's partition",
    LONG_STRING: "a text of more bytes than its processor takes (1024 unless that says otherwise)",
    LAW_FAILED: "the processor's law raises at this record, and somebody had it passed over",
}


def reason(processor: Processor, status: int) -> str:
    """The name of a status code, as it stands in a dead letter's header and in metrics."""
    if status >= OWN_REASONS:
        return list(processor.reasons)[status - OWN_REASONS]
    return NAMES[status]


def detail(processor: Processor, status: int) -> str:
    """What a status code says of every record that has it."""
    if status >= OWN_REASONS:
        return processor.reasons[reason(processor, status)]
    return DETAILS[status]
