"""Questions to a remote policy: each asked once, so many at a time, answered as control records."""

import asyncio
import json
from typing import Any

from agents.engine.asker import OUTSTANDING_MAX, Asker
from agents.engine.builder import RawBuilder
from agents.engine.control import read_control
from agents.engine.processor import Control, Decision, Place, Question
from tests.contract.harness import LOG_MS, PROCESSORS, TOPIC_ID, plan_of, read

PLAN = plan_of(PROCESSORS[0])
PLACE = Place(TOPIC_ID[:8], 0)


class Gate:
    """A policy that answers when it is told to: by the leader's name."""

    remote, fail_open, digest = True, False, "gate"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.open = asyncio.Event()

    def decide(self, tenant: str, leader: str, weights: Any) -> Decision:
        raise TypeError

    async def ask(self, question: Question) -> Decision:
        self.asked.append(question.id)
        await self.open.wait()
        if question.leader == "bad":
            raise RuntimeError("a defect")
        other = "other" if question.leader == "override" else ""
        return Decision(question.leader, other, "why")

    async def close(self) -> None: ...


def ask(k: int, leader: str = "allow") -> Question:
    return Question(f"{PLACE.prefix.decode()}{k}", "t", leader, {leader: 1.0})


def controls(builder: RawBuilder | None) -> list[Control]:
    """What a fold would be told, through the broker's form of it."""
    assert builder is not None
    found = []
    for sent in read("source", 0, builder):
        assert sent.key == b"t" and sent.value is not None
        control, refusal = read_control(sent.value, PLAN, PLACE, 1_000, LOG_MS)
        assert control is not None and refusal is None
        found.append(control)
    return found


class Desk:
    """An asker with what it called."""

    def __init__(self) -> None:
        self.policy = Gate()
        self.woken = 0
        self.ends: list[asyncio.Task[None]] = []
        self.asker = Asker("integrator", self.policy, self._wake, self.ends.append)

    def _wake(self) -> None:
        self.woken += 1


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_question_is_asked_once_and_its_answer_is_given_once() -> None:
    async def story() -> None:
        desk = Desk()
        for _ in range(3):
            desk.asker.want([ask(1), ask(2, "deny"), ask(3, "override")])
            await settle()
        assert len(desk.policy.asked) == 3 and desk.asker.take() is None
        desk.policy.open.set()
        await settle()
        assert desk.woken == 3
        told = controls(desk.asker.take())
        assert [control.setting for control in told] == ["allow", "deny", "override"]
        assert desk.asker.take() is None
        desk.asker.want([ask(1), ask(2, "deny"), ask(3, "override")])  # not folded yet
        await settle()
        assert len(desk.policy.asked) == 3 and desk.asker.take() is None

    asyncio.run(story())


def test_no_more_than_the_limit_are_asked_at_a_time() -> None:
    async def story() -> None:
        desk = Desk()
        desk.policy.open.set()
        pending = [ask(k) for k in range(3 * OUTSTANDING_MAX - 10)]
        rounds = 0
        while pending:
            desk.asker.want(pending)
            await settle()
            told = {json.loads(c.value)["id"] for c in controls(desk.asker.take())}
            assert len(told) <= OUTSTANDING_MAX
            pending = [question for question in pending if question.id not in told]
            rounds += 1
        assert rounds == 3 and len(desk.policy.asked) == 3 * OUTSTANDING_MAX - 10

    asyncio.run(story())


def test_what_is_not_asked_any_more_is_forgotten() -> None:
    async def story() -> None:
        desk = Desk()
        desk.asker.want([ask(1), ask(2)])
        await settle()
        desk.asker.want([ask(2)])
        desk.policy.open.set()
        await settle()
        (told,) = controls(desk.asker.take())
        assert json.loads(told.value)["id"] == ask(2).id
        desk.asker.want([])
        desk.asker.want([ask(2)])  # as after a recovery: asked anew
        await settle()
        assert desk.policy.asked.count(ask(2).id) == 2

    asyncio.run(story())


def test_an_answer_for_a_question_that_is_gone_is_not_given() -> None:
    async def story() -> None:
        desk = Desk()
        desk.policy.open.set()
        desk.asker.want([ask(1)])
        await settle()
        desk.asker.want([])
        assert desk.asker.take() is None

    asyncio.run(story())


def test_stopping_ends_what_is_asked() -> None:
    async def story() -> None:
        desk = Desk()
        desk.asker.want([ask(1), ask(2)])
        await settle()
        desk.asker.stop()
        desk.policy.open.set()
        await settle()
        assert desk.asker.take() is None and all(task.cancelled() for task in desk.ends)

    asyncio.run(story())


def test_a_defect_is_reported_never_swallowed() -> None:
    async def story() -> None:
        desk = Desk()
        desk.policy.open.set()
        desk.asker.want([ask(1, "bad")])
        await settle()
        (task,) = desk.ends
        assert isinstance(task.exception(), RuntimeError)

    asyncio.run(story())
