"""What a broker refuses is said in words: which topic, and why."""

from aiokafka import errors as kafka

from agents.engine.producer import refused


def test_a_topic_and_its_limit_are_named() -> None:
    said = refused(kafka.MessageSizeTooLargeError(), "made/3")
    assert said == (
        "made/3: records larger than it takes (max.message.bytes): MessageSizeTooLargeError"
    )


def test_rights_name_the_topics_that_lack_them() -> None:
    """They are asked for before anything is sent: the error knows the topics."""
    said = refused(kafka.TopicAuthorizationFailedError({"b", "a"}), "")
    assert said == "a, b: its ACLs lack Write: TopicAuthorizationFailedError"


def test_what_has_no_words_of_ours_says_its_own() -> None:
    assert refused(kafka.PolicyViolationError(), "made/3").startswith("made/3: [Error 44] Policy")
