"""Topics by name, for people: an unknown one is answered with the list of known ones."""

import difflib

import click

from topics.catalogue import CATALOGUE, Topic


def topic_named(name: str) -> Topic:
    """The catalogue's row; ClickException lists what there is."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    close = difflib.get_close_matches(name, CATALOGUE, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    known = "\n".join(f"  {topic}" for topic in CATALOGUE)
    raise click.ClickException(f"There is no topic {name!r}. {hint}Known topics:\n{known}")


def users_topic(name: str) -> tuple[Topic, str]:
    """A topic that users may write, and its schema's name; ClickException otherwise."""
    topic = topic_named(name)
    if not topic.public or topic.schema is None:
        open_ones = ", ".join(t.name for t in CATALOGUE.values() if t.public)
        raise click.ClickException(
            f"{name} is written by {', '.join(topic.writers)} only: what you put there would not "
            f"be part of any transaction. Topics for you: {open_ones}."
        )
    return topic, topic.schema
