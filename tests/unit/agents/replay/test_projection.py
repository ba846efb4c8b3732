"""A projection made anew, as far as no server is needed: what is refused, and how it is counted."""

from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from agents.replay.command import Command
from agents.replay.filling import PART_BYTES, Filling, part_of, size_of
from agents.replay.modes import CantReplayError
from agents.replay.projection import _declared, _refusal
from agents.settings import ProjectionSettings, Settings
from agents.tables.declared import declared
from stores.projection_admin import Outlook, job_id, job_key

GOOD = Outlook(generation=3, dropped=False, lost=0, role="w", allowed=True)
SETTINGS = Settings(kafka_bootstrap="127.0.0.1:1")


@pytest.mark.parametrize(
    ("found", "more", "said"),
    [
        ({}, {}, None),
        ({"dropped": True}, {}, "frames is dropped, and nobody reads it: `soma projection rebuild"),
        ({"dropped": True}, {"partial": True, "dry_run": True}, "frames is dropped"),
        ({"allowed": False}, {}, "role w may not make projections anew: `soma migrate grants w`"),
        ({"lost": 1200}, {}, "no longer has: 1,200. They can't be made anew; --partial lets them"),
        ({"lost": 1}, {"partial": True}, None),
        ({"lost": 1}, {"dry_run": True}, None),
    ],
)
def test_what_postgres_says_may_stand_against_it(
    found: dict[str, Any], more: dict[str, Any], said: str | None
) -> None:
    fields = {name: getattr(GOOD, name) for name in Outlook.__slots__}
    why = _refusal(Command(mode="projection", target="frames", **more), Outlook(**fields | found))
    assert why is None if said is None else said in (why or "")


def test_a_history_that_is_off_isnt_made_anew() -> None:
    off = SETTINGS.model_copy(update={"projections": ProjectionSettings(history="off")})
    with pytest.raises(CantReplayError, match="frame_history is off in this worker"):
        _declared(off, "frame_history")
    assert _declared(off, "frames").name == "frames"


@given(st.text("abc-._@0", min_size=1), st.integers(0, 2**60))
def test_a_jobs_name_tells_two_of_one_id_apart(job: str, accepted: int) -> None:
    assert job_id(job_key(job, accepted)) == job
    assert job_key(job, accepted) != job_key(job, accepted + 1)


offset = st.integers(0, 50)


@given(st.lists(st.tuples(offset, offset), min_size=1, max_size=3), st.data())
def test_what_is_done_adds_up_to_the_range_wherever_it_goes_on(
    spans: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Also where it begins anew, or is beyond the range, whose end was that of the plan."""
    ranges = {p: (min(one), max(one)) for p, one in enumerate(spans)}
    plan = {
        "source": "x", "source_id": "aa", "dry_run": True, "partial": False,
        "ranges": {str(p): list(span) for p, span in ranges.items()},
    }  # fmt: skip
    what = next(one for one in declared(SETTINGS) if one.name == "frames")
    position = {p: data.draw(st.integers(first, end)) for p, (first, end) in ranges.items()}
    filling = Filling(SETTINGS, what, plan, position)
    done = sum(position[p] - first for p, (first, _) in ranges.items())
    for _ in range(data.draw(st.integers(0, 4))):
        filling._at = {p: data.draw(st.integers(0, 80)) for p in ranges}
        done += filling._fill([], {}).done
        assert 0 <= done <= sum(end - first for first, end in ranges.values())
    assert done + filling._ended("").done == sum(end - first for first, end in ranges.values())


@given(st.lists(st.sampled_from([0, 1, 7, 40]), max_size=30), st.integers(1, 9))
def test_parts_have_a_limit_of_records_and_of_bytes_and_are_all_there_is(
    mib: list[int], most: int
) -> None:
    # A payload of so many MiB: the same bytes, so that a test needs no 1 GB.
    held = {n: bytes(n << 20) for n in {*mib}}
    messages = [Message(topic="t", partition=0, offset=k, value=held[n]) for k, n in enumerate(mib)]
    source, found, ended = iter(messages), list[Message](), False
    while not ended:
        part, ended = part_of(source, most)
        assert len(part) <= most and sum(map(size_of, part[:-1])) < PART_BYTES
        assert part or ended
        found += part
    assert found == messages
