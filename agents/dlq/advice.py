"""How to mend what a dead letter's reason names: one table, for all reasons there are."""

from collections.abc import Mapping

# By reason, or by "processor:reason" where two give a reason of one name.
ADVICE: Mapping[str, str] = {
    "bad_wire_format": "Its producer writes neither Avro in the Confluent wire format nor JSON: "
    "mend the producer's serializer; export the letter and give it a `record` to send it on.",
    "unknown_schema": "Its producer used a schema that this topic, or this version, doesn't know: "
    "register it (avro/ids.json), or update; then redrive it as it is.",
    "bad_avro": "The bytes aren't what their schema's id says: the producer wrote by another "
    "version of the schema, or cut the record. Export the letter and give it a `record`.",
    "bad_utf8": "A text isn't UTF-8: the producer must encode it so. Export the letter and give it "
    "a `record`.",
    "bad_json": "Set the fields that the detail names: `soma dlq redrive PLACE --set FIELD=VALUE`; "
    "to take one away, export the letter and import it without.",
    "null_value": "This topic has no tombstones: drop the letter.",
    "bad_tenant": "A tenant is 1-128 of A-Za-z0-9._- and the record's key: `--set tenant=NAME`.",
    "bad_domain": "A domain is 1-128 of A-Za-z0-9._-: `--set domain=NAME`.",
    "ts_range": "Its time is before 2000, or was more than an hour ahead: mend the producer's "
    "clock or unit (microseconds), and `--set ts=2026-01-31T12:00:00Z`.",
    "too_many_hops": "It was written to the wrong partition again and again: somebody copies it "
    "there. Redriven, it goes to its tenant's partition.",
    "control_refused": "Settings aren't redriven, for they would act later than they were meant: "
    "set it anew with `soma config set`.",
    "bad_batch": "The record batch lies about its records: its producer, or the disk, is broken. "
    "Export it to look into it; its producer must send the records again.",
    "too_large": "It is too large to be sent to its tenant's partition: its producer should write "
    "there itself (partitioner=murmur2_random), or less in one record.",
    "string_too_long": "A text is longer than its processor takes (1024 bytes mostly): shorten it "
    "by `--set FIELD=VALUE`.",
    "law_failed": "The processor's law raises at it, and somebody had it passed over: mend the "
    "law, or the record by `--set FIELD=VALUE`, then redrive it.",
    "vector_empty": "A vector has at least one number: `--set vector='[1, 2, 3]'`, or drop it.",
    "vector_ragged": "The vector's bytes aren't whole float32 numbers: mend the producer, and "
    "`--set vector='[1, 2, 3]'`.",
    "vector_too_long": "The vector has more numbers than predictors take: split it into several "
    "domains at its producer, or `--set vector='[1, 2, 3]'`.",
    "vector_not_finite": "A number of the vector is NaN or infinite: mend the producer, and "
    "`--set vector='[1, 2, 3]'`, or drop the letter.",
    "error_not_finite": "The predictor's error is NaN or infinite: mend the predictor, and "
    "`--set error_metric=NUMBER`, or drop the letter.",
    "error_negative": "An error is 0 or more: mend the predictor, and `--set error_metric=NUMBER`.",
    "too_many_domains": "The tenant has more domains than it may: wait until silent ones are "
    "forgotten, let segmentation take more (`soma config set TENANT domains_max N`), or drop it.",
    "gateway:refused": "The memory service refused it (the detail has its answer): mend the event "
    "by `--set FIELD=VALUE`, or the service, then redrive it.",
    "conflict": "The memory service has this event, or this dedupe key, with another content: drop "
    "the letter, or give it another event_id and dedupe_key.",
    "bad_payload": "The payload must be a JSON object, as text: `--set payload='{\"a\": 1}'`.",
    "memory:malformed": "No order to prune can be so: the detail names the field. Give it anew on "
    "prune.order, and drop the letter.",
    "id": "A memory's id follows from tenant and coordinate (uuid5): mend who writes it, or send "
    "it by POST /memories, which makes the id; drop the letter.",
    "coordinate": "The detail has the canonical form: `--set coordinate=TEXT`, with the id that "
    "follows from it.",
    "namespace": "Up to 200 characters without control characters: `--set namespace=NAME`.",
    "payload": "The payload must be a JSON object, as text: `--set payload='{\"a\": 1}'`.",
    "vector": "Little-endian float32, finite and not all zero: mend who embeds, and `--set "
    "embedding='[1, 2, 3]'`, or drop the letter.",
    "link": "Links lead to ids of other memories, and a kind has up to 64 characters: `--set "
    "links='{}'`, or drop the letter.",
    "importance": "It is a finite number, or none: `--set importance=NUMBER`.",
    "malformed": "No request for sleep can be so: the detail names the field. Ask anew (`soma "
    "sleep set`), and drop the letter: redriven, it would act later than it was meant.",
    "too_many": "The tenant had more requests for sleep than it may have: drop the letter, and see "
    "who asks so often.",
    "not_finite": "A part of the reward is NaN or infinite: mend who rewards, and `--set "
    "total=NUMBER`, or drop the letter.",
    "no_frame_id": "A reward names a frame by the frame's own `frame_id`: `--set frame_id=ID`.",
    "no_frame": "The tenant has no such frame, or it hadn't come in time: `--set frame_id=ID`, or "
    "drop the letter.",
    "rewarded_before": "A frame has one reward, and one rating: drop the letter.",
    "after_window": "The frame was too old to be learned from: reward sooner, or let the tenant "
    "keep frames longer (`soma config set TENANT window_s SECONDS`), and drop the letter.",
    "not_learning": "No frame of the tenant has come to be learned from: `soma config set TENANT "
    "learning on`, and run `lessons`; drop the letter.",
    "rating": "A rating is from 1 to 5: `--set rating=NUMBER`.",
    "refused": "The processor's own law refused it: the detail says why. Mend it by `--set "
    "FIELD=VALUE`, or change the law, then redrive it.",
}
FOREIGN = (
    "Not a letter of ours: it lacks the headers that say why and whence, or they lie. Somebody "
    "else writes to this topic; drop it."
)
OTHER = (
    "A reason of its processor's own: the detail says what was wrong. Mend the record by `--set "
    "FIELD=VALUE`, or what it met, then redrive it."
)


def advice(reason: str, processor: str) -> str:
    """How to mend a letter of this reason; an empty one is no letter of ours."""
    if not reason:
        return FOREIGN
    return ADVICE.get(f"{processor}:{reason}") or ADVICE.get(reason, OTHER)
