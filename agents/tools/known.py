"""Topics by name, for people: an unknown one is answered with the list of known ones."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from confluent_kafka import Consumer, KafkaException, Producer

from topics.catalogue import CATALOGUE, Topic

if TYPE_CHECKING:
    from agents.settings import Settings

ANSWER_S = 10.0  # how long we wait for the broker to say who it is


def topic_named(name: str) -> Topic:
    """The catalogue's row; ClickException lists what there is."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    raise _unknown(name, "Known topics", [*CATALOGUE])


def users_topic(name: str) -> tuple[Topic, str]:
    """A topic that users may write, and its schema's name; ClickException otherwise."""
    open_ones = [t.name for t in CATALOGUE.values() if t.public]
    topic = CATALOGUE.get(name)
    if topic is None:
        raise _unknown(name, "Topics for you", open_ones)
    if not topic.public or topic.schema is None:
        raise click.ClickException(
            f"{name} is written by {', '.join(topic.writers)} only: what you put there would not "
            f"be part of any transaction. Topics for you: {', '.join(open_ones)}."
        )
    return topic, topic.schema


def _unknown(name: str, which: str, names: Sequence[str]) -> click.ClickException:
    close = difflib.get_close_matches(name, CATALOGUE, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    known = "\n".join(f"  {topic}" for topic in names)
    return click.ClickException(f"There is no topic {name!r}. {hint}{which}:\n{known}")


def partitions_of(client: Consumer | Producer, settings: "Settings", topic: str) -> set[int]:
    """The topic's partitions; ClickException if the broker or the topic isn't there."""
    name = settings.topic(topic)
    try:
        found = client.list_topics(name, timeout=ANSWER_S).topics[name]
    except KafkaException as error:
        raise click.ClickException(
            f"Kafka at {settings.bootstrap()} doesn't answer: {error.args[0].str()}. "
            "Start the local stack with `soma stack up`, or check SOMA_KAFKA_BOOTSTRAP."
        ) from error
    if found.error is not None or not found.partitions:
        raise click.ClickException(
            f"The broker has no topic {name}: create the topics with `soma topics apply`."
        )
    return set(found.partitions)
