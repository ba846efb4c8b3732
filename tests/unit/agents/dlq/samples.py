"""Letters to try things on."""

from dataclasses import replace
from typing import Any

from agents.dlq.letters import Headers, Letter, Place, letter_of
from topics import codec

TOPIC = "cog.observations"
SOURCE = f"ours.{TOPIC}"  # as on the broker
ID = "0123456789abcdef" * 2
LOG_MS = 1_770_000_000_000
GOOD: dict[str, Any] = {
    "tenant": "me", "domain": "state", "ts": "2026-01-31T12:00:00Z", "vector": [1.0, 2.5],
}  # fmt: skip


def avro(**changes: Any) -> bytes:
    return codec.encode("observation", codec.from_json("observation", GOOD | changes))


def why(
    reason: str = "bad_json", origin: str = f"{SOURCE}/1/7", detail: str = "what", who: str = ""
) -> Headers:
    return [
        ("soma-reason", reason.encode()),
        ("soma-detail", detail.encode()),
        ("soma-origin", origin.encode()),
        ("soma-processor", (who or "predictors").encode()),
    ]


def letter(
    value: bytes | None = None, own: Headers = (), offset: int = 3, key: bytes | None = b"me",
    **said: str,
) -> Letter:  # fmt: skip
    place = Place(f"{TOPIC}.dlq", 1, offset)
    headers = [*own, *why(**said)]
    return letter_of(place, ID, LOG_MS, key, value, headers, SOURCE)


def later(one: Letter, seconds: float) -> Letter:
    return replace(one, log_ms=one.log_ms + round(seconds * 1000))
