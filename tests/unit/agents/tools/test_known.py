import click
import pytest

from agents.tools.known import topic_named, users_topic
from topics.catalogue import CATALOGUE


def test_every_topic_of_the_catalogue_is_known() -> None:
    assert [topic_named(name).name for name in CATALOGUE] == list(CATALOGUE)


def test_an_unknown_topic_is_answered_with_those_there_are() -> None:
    with pytest.raises(click.ClickException) as caught:
        topic_named("cog.observation")
    assert "Did you mean cog.observations?" in caught.value.message
    assert all(name in caught.value.message for name in CATALOGUE)


def test_only_users_topics_may_be_written() -> None:
    assert users_topic("cog.observations")[1] == "observation"
    for name, topic in CATALOGUE.items():
        if not topic.public:
            with pytest.raises(click.ClickException, match="only"):
                users_topic(name)
