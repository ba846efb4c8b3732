"""The law of trying again, by a clock that the test moves."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soma_client.call import Answer, Call
from soma_client.errors import (
    ApiError,
    BadAnswer,
    BadRequest,
    Broken,
    CantSend,
    Conflict,
    DeadlineExceeded,
    NotAllowed,
    NotReached,
    NotThere,
    SomaError,
    TooMany,
    Unavailable,
)
from soma_client.trying import PASSING, Policy, Send, Wait, retry_after_s, steps

CALL: Call[str] = Call("POST", "/x", lambda answer: answer.body.decode(), key="k")
BARE = replace(CALL, key=None)
POLICY = Policy(timeout_s=10.0, tries=4)
Came = Answer | httpx.HTTPError


def no(status: int, body: bytes = b'{"detail": "no"}', **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def run(
    call: Call[str],
    came: Callable[[int], Came],
    policy: Policy = POLICY,
    takes_s: float = 0.0,
    share: float = 1.0,
) -> tuple[Any, list[float], list[float]]:
    """What a call comes to, what each try was given, and the waits; a try takes so long."""
    now = 0.0
    doing = steps(call, policy, lambda: now, lambda low, high: low + share * (high - low))
    given_s, waits, step = list[float](), list[float](), next(doing)
    try:
        while True:
            if isinstance(step, Send):
                given_s.append(step.within_s)
                now += takes_s
                step = doing.send(came(len(given_s)))
            else:
                assert isinstance(step, Wait)
                waits.append(step.seconds)
                now += step.seconds
                step = doing.send(None)
    except StopIteration as done:
        return done.value, given_s, waits
    except SomaError as error:
        return error, given_s, waits


def test_what_passes_is_waited_for_twice_as_long_each_time() -> None:
    end, tries, waits = run(CALL, lambda n: no(503) if n < 4 else Answer(200, {}, b"yes"))
    assert (end, len(tries)) == ("yes", 4)
    assert waits == [0.1, 0.2, 0.4]
    assert tries == pytest.approx([10.0, 9.9, 9.7, 9.3])


def test_tries_and_time_end_it_with_the_last_trouble() -> None:
    end, tries, waits = run(CALL, lambda n: no(503 if n % 2 else 429))
    assert isinstance(end, TooMany) and len(tries) == 4
    end, tries, _ = run(CALL, lambda _: no(503), takes_s=6.0)
    assert isinstance(end, Unavailable) and len(tries) == 2
    end, tries, waits = run(CALL, lambda _: no(429, retry_after="11"))
    assert isinstance(end, TooMany) and (len(tries), waits) == (1, [])
    end, tries, _ = run(CALL, lambda _: httpx.ReadTimeout("late"), takes_s=11.0)
    assert isinstance(end, DeadlineExceeded) and len(tries) == 1
    assert isinstance(end.__cause__, httpx.ReadTimeout)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500])
def test_a_verdict_is_not_asked_for_twice(status: int) -> None:
    end, tries, _ = run(CALL, lambda _: no(status))
    assert isinstance(end, ApiError) and (end.status, len(tries)) == (status, 1)


def test_what_may_act_twice_is_sent_once_unless_it_never_left() -> None:
    lost: list[Came] = [no(503), httpx.ReadError("reset"), httpx.ReadTimeout("late")]
    for one in lost:
        assert len(run(BARE, lambda _, one=one: one)[1]) == 1  # type: ignore[misc]
        assert len(run(CALL, lambda _, one=one: one)[1]) == 4  # type: ignore[misc]
    end, tries, _ = run(BARE, lambda _: httpx.ConnectError("refused"))
    assert isinstance(end, NotReached) and len(tries) == 4
    assert replace(BARE, method="GET").repeatable and replace(BARE, asks=True).repeatable


@given(st.sampled_from(sorted(PASSING)), st.floats(0, 1), st.integers(1, 9), st.integers(0, 3))
def test_no_call_outlives_its_time_or_comes_sooner_than_it_may(
    status: int, share: float, tries: int, after: int
) -> None:
    policy = Policy(timeout_s=4.0, tries=tries)
    answer = no(status, retry_after=str(after))
    _, given_s, waits = run(CALL, lambda _: answer, policy, 0.5, share)
    assert len(given_s) <= tries and sum(waits) < 4.0
    assert all(one > 0 for one in given_s) and all(one >= after for one in waits)


def test_retry_after_is_seconds_or_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    assert 80 < retry_after_s({"retry-after": format_datetime(later, usegmt=True)}) <= 90
    past = format_datetime(later - timedelta(days=1), usegmt=True)
    for said, seconds in (("7", 7.0), ("", 0.0), ("soon", 0.0), ("-3", 0.0), (past, 0.0)):
        assert retry_after_s({"retry-after": said}) == seconds
    assert retry_after_s({}) == 0.0


def test_errors_carry_the_problem_document() -> None:
    body = (
        b'{"title": "Conflict", "status": 409, "detail": "It is at version 3.", "current": 3,'
        b' "request_id": "r1", "errors": [{"at": "/x", "detail": "odd"}]}'
    )
    kinds = {409: Conflict, 401: NotAllowed, 403: NotAllowed, 404: NotThere, 422: BadRequest,
             500: Broken, 413: BadRequest}  # fmt: skip
    for status, kind in kinds.items():
        assert type(run(CALL, lambda _, status=status: no(status, body))[0]) is kind  # type: ignore[misc]
    end = run(CALL, lambda _: no(409, body))[0]
    assert str(end) == "409 Conflict: It is at version 3.; /x odd (request r1)"
    assert (end.current, end.document["status"], end.errors[0].at) == (3, 409, "/x")


def test_what_is_not_the_api_is_told_apart() -> None:
    page = no(502, b"<html>", x_request_id="r2")
    end = run(CALL, lambda _: page)[0]
    assert isinstance(end, Unavailable) and end.request_id == "r2"
    assert isinstance(run(CALL, lambda _: no(302))[0], BadAnswer)
    read: Call[Any] = replace(CALL, read=lambda answer: answer.json())
    assert isinstance(run(read, lambda _: no(200, b"<html>"))[0], BadAnswer)
    assert isinstance(run(CALL, lambda _: httpx.UnsupportedProtocol("x://"))[0], CantSend)
