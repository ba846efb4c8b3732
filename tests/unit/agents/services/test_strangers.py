"""Who else is in a group of ours, in words."""

from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from agents.services.strangers import in_words


def member(client_id: str, *partitions: int) -> tuple[Any, ...]:
    """A member as the broker describes it."""
    dealt = [("memory.events", list(partitions))] if partitions else []
    assignment = ConsumerProtocolMemberAssignment(0, dealt, b"").encode()
    return ("an id", None, client_id, "/10.0.0.3", b"", assignment)


def test_those_of_ours_are_no_strangers() -> None:
    assert in_words("soma-gateway", []) == ""
    assert in_words("soma-gateway", [member("soma-gateway", 0), member("soma-gateway")]) == ""


def test_each_stranger_is_named_with_what_it_has() -> None:
    without = ("an id", None, "joining", "/10.0.0.4", b"", b"")
    members = [member("soma-gateway", 1), member("reporting", 2, 0), member("idle"), without]
    assert in_words("soma-gateway", members) == (
        "'idle' of 10.0.0.3 waits for partitions; "
        "'joining' of 10.0.0.4 waits for partitions; "
        "'reporting' of 10.0.0.3 has the partitions 0, 2"
    )
