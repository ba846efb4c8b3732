"""What SOMA_KAFKA_PROPERTIES may say."""

import re

from agents import addresses
from topics import strictjson

PROPERTY = re.compile(r"[a-z]+([._][a-z0-9]+)+|debug")
# What has a setting of its own, or must be as the engine wants it.
OURS = {
    "bootstrap.servers": "SOMA_KAFKA_BOOTSTRAP",
    "metadata.broker.list": "SOMA_KAFKA_BOOTSTRAP",
    "group.id": "SOMA_NAMESPACE",
    "transactional.id": "SOMA_NAMESPACE",
    "isolation.level": "Soma itself",
    "enable.auto.commit": "Soma itself",
    "auto.offset.reset": "Soma itself",
    "enable.idempotence": "Soma itself",
    "acks": "Soma itself",
    "request.required.acks": "Soma itself",
    "session.timeout.ms": "SOMA_SESSION_TIMEOUT_S",
}
# Configuration of a client that isn't librdkafka's own: no `_` of it stands for a dot.
OF_CLIENT = {
    "log_level", "error_cb", "stats_cb", "throttle_cb", "oauth_cb", "on_commit", "on_delivery",
}  # fmt: skip


def properties(value: object) -> object:
    """Properties of a text; what isn't one is left as it is."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        parsed: object = strictjson.parse(value)
        return parsed
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    # What isn't surely a name may be the end of a password: it is never shown.
    if any(not equals or not PROPERTY.fullmatch(name.strip()) for name, equals, _ in pairs):
        raise ValueError(
            'give "name=value,name=value", or a JSON object where a value has a comma '
            "or a name has no dot"
        )
    return {name.strip(): text.strip() for name, _, text in pairs}


def not_ours(given: dict[str, str]) -> dict[str, str]:
    """The properties, if none is set elsewhere and their files are there."""
    if taken := [name for name in OURS if name in given]:
        wanted = ", ".join(f"{name} by {OURS[name]}" for name in taken)
        raise ValueError(f"these are set elsewhere: {wanted}")
    addresses.files(given)
    return given


def dotted(name: str) -> str:
    """`enable_auto_commit` → `enable.auto.commit`; names of the client's own pass as they are."""
    return name if name in OF_CLIENT else name.replace("_", ".")
