"""Who else is in a group of ours, in words."""

from types import SimpleNamespace
from typing import Any

from topics.strangers import strangers


def member(client_id: str, *partitions: int) -> Any:
    """A member as the client describes it."""
    places = [SimpleNamespace(topic="memory.events", partition=one) for one in partitions]
    assignment = SimpleNamespace(topic_partitions=places)
    return SimpleNamespace(client_id=client_id, host="/10.0.0.3", assignment=assignment)


def group(*members: Any) -> Any:
    return SimpleNamespace(group_id="projection.gateway", members=members)


def test_those_of_ours_are_no_strangers() -> None:
    assert strangers(group(), "soma-gateway") == ""
    assert strangers(group(member("soma-gateway", 0), member("soma-gateway")), "soma-gateway") == ""


def test_each_stranger_is_named_with_what_it_has() -> None:
    others = member("reporting", 2, 0), member("idle")
    assert strangers(group(member("soma-gateway", 1), *others), "soma-gateway") == (
        "others are in the group projection.gateway, and what is read there isn't done: "
        "'idle' of 10.0.0.3 waits for partitions; "
        "'reporting' of 10.0.0.3 has the partitions 0, 2"
    )
