"""How often a call is tried, and how long is waited between: no I/O, so both clients share it.

Waits grow by two and are drawn evenly from 0 to that ("full jitter": Brooker, Exponential Backoff
And Jitter, AWS Architecture Blog, 2015); never shorter than Retry-After (RFC 9110, 10.2.3) says. A
call that isn't repeatable is sent once; only where no connection came about, again.
"""

import email.utils
import random
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import httpx

from soma_client.call import Answer, Call
from soma_client.errors import BadAnswer, CantSend, DeadlineExceeded, NotReached, error_of

T = TypeVar("T")
PASSING = frozenset({408, 429, 502, 503, 504})
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
FIRST_S, LONGEST_S = 0.1, 5.0
_ENDS = 300  # statuses below are answers
_REFUSED = 400


@dataclass(frozen=True, slots=True)
class Policy:
    """A call has `timeout_s` in all, waits included, and is sent at most `tries` times."""

    timeout_s: float = 30.0
    tries: int = 6
    first_s: float = FIRST_S
    longest_s: float = LONGEST_S


@dataclass(frozen=True, slots=True)
class Send:
    """Send it, and give back its `Answer` or httpx's error."""

    within_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so long."""

    seconds: float


Steps = Generator[Send | Wait, Answer | httpx.HTTPError | None, T]


def steps(
    call: Call[T],
    policy: Policy,
    clock: Callable[[], float] = time.monotonic,
    drawn: Callable[[float, float], float] = random.uniform,
) -> Steps[T]:
    """What to do for a call; returns what its answer says. `SomaError`.

    The last trouble is raised, and at once where the wait that is due would outlast the deadline.
    """
    until = clock() + policy.timeout_s
    for number in range(1, max(1, policy.tries) + 1):
        answer = yield Send(max(0.0, until - clock()))
        if isinstance(answer, Answer) and answer.status < _ENDS:
            return call.read(answer)
        trouble, least_s, again = _trouble(call, answer)
        left = until - clock()
        most_s = min(policy.longest_s, policy.first_s * 2.0 ** (number - 1))
        wait_s = max(least_s, drawn(0.0, most_s))
        if not again or number >= policy.tries or wait_s >= left:
            raise trouble
        yield Wait(wait_s)
    raise AssertionError("the last try ends the loop")


def _trouble(
    call: Call[T], answer: Answer | httpx.HTTPError | None
) -> tuple[Exception, float, bool]:
    """What is raised in the end; the least wait; whether it may pass."""
    if isinstance(answer, Answer):
        if answer.status < _REFUSED:
            told = f"{answer.status}, which the API never answers: is it the API?"
            return BadAnswer(told), 0.0, False
        error = error_of(answer.status, _document(answer), answer.headers.get("x-request-id", ""))
        again = answer.status in PASSING and call.repeatable
        return error, retry_after_s(answer.headers), again
    if isinstance(answer, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return CantSend(str(answer)), 0.0, False
    kind = DeadlineExceeded if isinstance(answer, httpx.TimeoutException) else NotReached
    lost = kind(f"{call.method} {call.path}: {answer or type(answer).__name__}")
    lost.__cause__ = answer
    return lost, 0.0, call.repeatable or isinstance(answer, UNSENT)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """How long the answer wants us to wait: seconds, or until a date; 0 where it says nothing."""
    said = headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        until = email.utils.parsedate_to_datetime(said)
    except (TypeError, ValueError):
        return 0.0
    aware = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _document(answer: Answer) -> object:
    try:
        return answer.json()
    except BadAnswer:
        return None
