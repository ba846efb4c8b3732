"""What there is to do for a job, by what is wanted of it and how it is."""

import pytest

from agents.engine.errors import UnknownVersion
from agents.kit.run import read
from agents.replay.jobs import Jobs, Status, Wanted, sends_of, status_of, tombstones
from agents.settings import Settings
from topics.catalogue import MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("wanted", "asked", "state", "unsettled"),
    [
        ("run", 0, None, True),
        ("run", 0, "accepted", False),
        ("run", 0, "running", False),
        ("run", 0, "paused", True),
        ("run", 2, "running", True),
        ("pause", 1, "running", True),
        ("pause", 1, "paused", False),
        ("stop", 1, "running", True),
        ("stop", 1, "paused", True),
        ("stop", 1, "stopped", False),
        ("pause", 1, "done", False),
        ("run", 1, "failed", False),
        ("run", 2, "done", True),
    ],
)
def test_a_job_is_looked_at_when_it_isnt_as_is_wanted_or_somebody_asks(
    wanted: str, asked: int, state: str | None, unsettled: bool
) -> None:
    jobs = Jobs({"a": Wanted("{}", wanted, asked, 5)})
    if state is not None:
        jobs.status["a"] = Status("a", state, answers=1)
    assert jobs.is_unsettled("a") is unsettled
    assert jobs.unsettled() == (["a"] if unsettled else [])


def test_the_oldest_come_first_and_those_forgotten_last() -> None:
    jobs = Jobs({"b": Wanted("{}", "run", 0, 7), "a": Wanted("{}", "run", 0, 9)})
    jobs.status["gone"] = Status("gone", "done")
    assert jobs.unsettled() == ["b", "a", "gone"]


def test_a_status_comes_back_as_it_was() -> None:
    status = Status("a", position={"3": 12}, done=5, started=7)
    status.became("failed", "why")
    back = status_of(status.encoded())
    assert back == status and back.over and back.finished is not None


def test_what_a_newer_version_wrote_is_named() -> None:
    with pytest.raises(UnknownVersion, match=r"soma\.replay\.jobs: "):
        status_of(b"\0\0\0\xff\xff123")


def test_many_statuses_come_in_batches_that_the_topic_takes() -> None:
    settings = Settings(namespace="n")
    some = [Status(f"job-{k}", plan=f"{k}" * 900) for k in range(900)]
    sends = sends_of(settings, 3, some, some[:2])
    assert {(topic, partition) for topic, partition, _ in sends} == {
        ("n.soma.replay.jobs", 3), ("n.soma.admin.replay.status", 3),
    }  # fmt: skip
    assert all(one.size() < MESSAGE_BYTES_MAX for *_, one in sends)
    sent = [one for send in sends for one in read(*send) if one.topic == "n.soma.replay.jobs"]
    assert [status_of(one.value or b"").id for one in sent] == [one.id for one in some]
    gone = [one for send in tombstones(settings, 3, ["a", "b"]) for one in read(*send)]
    assert [(one.key, one.value) for one in gone] == [(b"a", None), (b"b", None)]
    assert sends_of(settings, 3, [], []) == [] == tombstones(settings, 3, [])
