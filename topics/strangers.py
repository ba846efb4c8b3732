"""Members of a group of ours that aren't ours: they take partitions, and nobody does what is there.

The groups of services deal partitions out by the client's own protocols, so the broker lets any
consumer in that knows the group's name.
"""

from confluent_kafka.admin import ConsumerGroupDescription  # type: ignore[attr-defined]


def strangers(group: ConsumerGroupDescription, client_id: str) -> str:
    """Who is in the group under another client id than ours, and what they have, in words; mostly
    empty.
    """
    found = []
    for one in group.members:
        if one.client_id == client_id:
            continue
        has = one.assignment.topic_partitions if one.assignment is not None else ()
        numbers = ", ".join(
            str(place.partition) for place in sorted(has or (), key=lambda at: at.partition)
        )
        taken = f"has the partitions {numbers}" if numbers else "waits for partitions"
        found.append(f"{one.client_id!r} of {one.host.lstrip('/')} {taken}")
    if not found:
        return ""
    return (
        f"others are in the group {group.group_id}, and what is read there isn't done: "
        + "; ".join(sorted(found))
    )
