"""Headers of messages whose names no client of ours could write."""

from agents.settings import Settings
from tests.live.agents.dlq.written import write_nameless
from tests.live.helpers import environment, read, soma
from topics.messages import headers_of

MADE = ("cog.observations",)

TOPIC, MANY = "cog.observations", 200  # calls that run often are specialised


def test_a_header_whose_name_is_no_text_harms_nobody(topics: Settings) -> None:
    write_nameless(topics, TOPIC, MANY)
    found = read(topics, TOPIC)
    assert len(found) == MANY
    for message in found:
        assert headers_of(message) == []
    done = soma("watch", TOPIC, "--from", "beginning", "--no-follow", env=environment(topics))
    assert done.returncode == 0 and done.stderr.count("bad_wire_format") == MANY, done.stderr[-500:]
