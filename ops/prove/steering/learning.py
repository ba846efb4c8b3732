"""The laws of lessons, feedback and learner, written again for the verifier."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.prove.dozing import Sleep, learning_left
from ops.prove.law import RefusedError, Row
from ops.prove.overrides import choice
from ops.prove.rowlaw import SEPARATOR, At, Out, RowLaw

FRAMES, REWARDS, OPINIONS = "cog.global.frame", "cog.reward.events", "cog.teach.feedback"
UPDATES = "cog.config.updates"
TEACH, LEARNER = "teach", "learner"
REWARD, LESSON = "reward_event", "lesson"
PARTS = ("r_task", "r_user", "r_latency", "r_safety", "r_cost", "total")
FRAMES_MAX, WAITING_MAX, DOMAINS_MAX = 256, 16, 16
NUMBERED = re.compile(r"(.+-)([0-9]{1,18})\Z", re.ASCII)
LESSON_KINDS: dict[str, Callable[[str], Any]] = {"learning": choice("off", "on")}
LEARNER_KINDS: dict[str, Callable[[str], Any]] = {
    "loss_alpha": float, "window_s": float, "wait_s": float, "every_s": float, "tau_min": float,
    "anneal": choice("none", "exponential", "step", "linear"), "anneal_rate": float,
}  # fmt: skip


@dataclass
class Known:
    """Whether the learner has something of a tenant."""

    some: bool = False


class Lessons(RowLaw):
    """Folds global_frames; see rowlaw.RowLaw."""

    processor, topic, source = "lessons", FRAMES, "global_frame"
    schemas = ("global_frame",)
    sinks = (REWARDS,)
    state = "brought_row"
    kinds = LESSON_KINDS
    domain, keeper = True, False

    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        tenant = record["tenant"]
        said = {"frame_id": record["frame_id"], "tenant": tenant, "ts": record["ts"]}
        if self.settings.of(tenant)["learning"] == "on":
            self.table[tenant] = Known(True)
            more = {"leader": record["leader"], "errors": record["errors"], "ended": False}
        elif self.table.pop(tenant, None) is not None:
            more = {"leader": "", "errors": {}, "ended": True}
        else:
            return []
        return [Out(REWARDS, tenant, said | more, tenant)]

    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """See rowlaw.RowLaw."""
        return row if name == LESSON else None


class Feedback(RowLaw):
    """Folds teach_feedback; see rowlaw.RowLaw."""

    processor, topic, source = "feedback", OPINIONS, "teach_feedback"
    schemas = ("teach_feedback",)
    sinks = (REWARDS,)
    state = "brought_row"

    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        if not 1.0 <= record["rating"] <= 5.0:
            raise RefusedError("rating")
        said = {"frame_id": record["frame_id"], "tenant": record["tenant"], "ts": record["ts"],
                "r_user": (record["rating"] - 3.0) / 2.0}  # fmt: skip
        return [Out(REWARDS, record["tenant"], said, record["tenant"])]

    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """See rowlaw.RowLaw."""
        if name != REWARD or row["source"] != TEACH or row["waited"]:
            return None
        return {name: row[name] for name in ("frame_id", "tenant", "ts", "r_user")}


@dataclass
class Learning:
    """A tenant's row."""

    place: str = ""
    frames: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    had: list[int] = field(default_factory=list)
    leader: str = ""
    losses: dict[str, float] = field(default_factory=dict)
    regret: float = 0.0
    reward: float = 0.0
    rewards: int = 0
    waiting: list[str] = field(default_factory=list)
    until: list[int] = field(default_factory=list)
    said: dict[str, float] = field(default_factory=dict)
    said_at: int = 0
    due: int | None = None

    def keep(self, which: list[bool]) -> list[str]:
        """Go on waiting for these; the others' texts."""
        gone = [text for text, stays in zip(self.waiting, which, strict=True) if not stays]
        self.waiting = [one for one, stays in zip(self.waiting, which, strict=True) if stays]
        self.until = [one for one, stays in zip(self.until, which, strict=True) if stays]
        self.due = min(self.until, default=None)
        return gone

    def note(self, place: str, number: int, ts: int, window_us: int) -> None:
        """A frame comes into the window."""
        if place != self.place or number <= (self.frames[-1] if self.frames else -1):
            self.place, self.frames, self.times, self.had = place, [], [], []
        frames = [*zip(self.frames, self.times, self.had, strict=True), (number, ts, 0)]
        frames = frames[-FRAMES_MAX:]
        oldest = max([*self.times, ts]) - window_us
        while len(frames) > 1 and frames[0][1] < oldest:
            frames = frames[1:]
        self.frames, self.times, self.had = ([one[k] for one in frames] for k in range(3))

    def learn(self, leader: str, errors: Mapping[str, float], part: float, alpha: float) -> None:
        """Learn from a frame's errors."""
        losses, rate = {n: -math.expm1(-alpha * e) for n, e in errors.items()}, part * 0.15
        for name, loss in losses.items():
            mean = self.losses.get(name, loss)
            self.losses[name] = mean + rate * (loss - mean)
        for name in [n for n in self.losses if n not in losses]:
            if len(self.losses) > DOMAINS_MAX:
                del self.losses[name]
        if self.leader in losses:
            best = min((self.losses[name], name) for name in losses)[1]
            self.regret += rate * (losses[self.leader] - losses[best] - self.regret)
        self.leader = leader


class Learner(RowLaw):
    """Folds reward_events and lessons; see rowlaw.RowLaw."""

    processor, topic, source = "learner", REWARDS, REWARD
    schemas = (REWARD, LESSON)
    sinks = (UPDATES, REWARDS)
    state = "learner_state"
    kinds = LEARNER_KINDS

    def sleep(self, tenant: str, sleep: Sleep) -> None:
        """See rowlaw.RowLaw."""
        self.settings.let_sleep(tenant, sleep)
        own = self.texts.setdefault(tenant, {})
        own.pop("sleep", None)
        if tenant in self.settings.asleep:
            own["sleep"] = str(sleep.number)

    def fold(self, name: str, record: Row, at: At) -> list[Out]:
        """See rowlaw.RowLaw."""
        row = self.table.setdefault(record["tenant"], Learning())
        return (self._lesson if name == LESSON else self._reward)(row, record, at)

    def _lesson(self, row: Learning, record: Row, at: At) -> list[Out]:
        tenant = record["tenant"]
        if record["ended"]:
            del self.table[tenant]
            taken_back = [self._update(tenant, name, "", at) for name in row.said]
            return taken_back + [_again(tenant, text) for text in row.waiting]
        values = self.settings.of(tenant)
        numbered = NUMBERED.match(record["frame_id"])
        place, number = (numbered[1], int(numbered[2])) if numbered else ("", -1)
        row.note(place, number, record["ts"], int(values["window_s"] * 1e6))
        if part := learning_left(self.settings.state(tenant)):
            row.learn(record["leader"], record["errors"], part, values["loss_alpha"])
        met = row.keep([json.loads(one)["frame_id"] != record["frame_id"] for one in row.waiting])
        return [_again(tenant, text) for text in met] + self._say(tenant, row, at)

    def _reward(self, row: Learning, record: Row, at: At) -> list[Out]:
        tenant = record["tenant"]
        if not all(math.isfinite(record[part] or 0.0) for part in PARTS):
            raise RefusedError("not finite")
        numbered = NUMBERED.match(record["frame_id"])
        if numbered is None:
            raise RefusedError("no frame's id")
        number = int(numbered[2])
        ours = numbered[1] == row.place and bool(row.frames)
        if ours and number in row.frames:
            return self._rewarded(row, row.frames.index(number), record, at)
        if (ours and number < row.frames[-1]) or record["waited"]:
            raise RefusedError("no such frame")
        text = json.dumps(record | {"waited": True}, sort_keys=True)
        wait_us = int(self.settings.of(tenant)["wait_s"]) * 1_000_000
        row.waiting.append(text)
        row.until.append(at.log_ms * 1000 + wait_us)
        most = len(row.waiting) - WAITING_MAX
        gone = row.keep([k >= most for k in range(len(row.waiting))])
        return [_again(tenant, one) for one in gone]

    def _rewarded(self, row: Learning, k: int, record: Row, at: At) -> list[Out]:
        bit = 2 if record["source"] == TEACH else 1
        if row.had[k] & bit:
            raise RefusedError("rewarded before")
        row.had[k] |= bit
        task, user, latency, safety, cost, total = (record[part] for part in PARTS)
        value = task + user + safety - latency - cost if total is None else total
        part = learning_left(self.settings.state(record["tenant"]))
        row.reward += part * 0.2 * (min(1.0, max(-1.0, value)) - row.reward)
        row.rewards += part > 0.0
        return self._say(record["tenant"], row, at)

    def _say(self, tenant: str, row: Learning, at: At) -> list[Out]:
        """What was learned, where that is new."""
        values, now = self.settings.of(tenant), at.log_ms * 1000
        asleep = learning_left(self.settings.state(tenant)) == 0.0
        if asleep or now - row.said_at < values["every_s"] * 1e6:
            return []
        best = min(row.losses.values(), default=0.0)
        known = {f"prior@{n}": _clamp(1.0 - (one - best)) for n, one in row.losses.items()}
        if row.rewards:
            known["learned_temperature"] = _annealed(row, values)
        found = []
        for name in [n for n in row.said if n.startswith("prior") and n not in known]:
            del row.said[name]
            found.append(self._update(tenant, name, "", at))
        for name, value in known.items():
            before = row.said.get(name, 1.0)
            if abs(value - before) > 0.01 * abs(before):
                row.said[name], row.said_at = value, now
                found.append(self._update(tenant, name, f"{value:.6g}", at))
        return found

    def _update(self, tenant: str, name: str, value: str, at: At) -> Out:
        said = {"tenant": tenant, "setting": name, "value": value, "author": LEARNER,
                "ts": at.log_ms * 1000, "processor": "integrator"}  # fmt: skip
        return Out(UPDATES, f"{tenant}{SEPARATOR}integrator.{name}", said, tenant)

    def over(self, tenant: str, now: int) -> list[Out]:
        """See rowlaw.RowLaw."""
        row: Learning = self.table[tenant]
        return [_again(tenant, text) for text in row.keep([one > now for one in row.until])]

    def row(self, row: Row) -> Row:
        """See rowlaw.RowLaw. A reward that waits, without where it was."""
        waiting = [json.loads(text) for text in row["waiting"]]
        for one in waiting:
            del one["offset"], one["log_ms"]
        return row | {"waiting": [json.dumps(one, sort_keys=True) for one in waiting]}

    def view(self, topic: str, name: str, row: Row) -> Row | None:
        """See rowlaw.RowLaw."""
        if topic == REWARDS:
            return row if name == REWARD and row["waited"] else None
        if row["author"] != LEARNER:
            return None
        return {name: one for name, one in row.items() if not name.startswith("expected")}


def _again(tenant: str, text: str) -> Out:
    """A reward that has waited, into the source once more."""
    return Out(REWARDS, tenant, json.loads(text), tenant)


def _clamp(value: float) -> float:
    return min(1.0, max(0.1, value))


def _annealed(row: Learning, values: Mapping[str, Any]) -> float:
    """The temperature, after so many rewards on its way to the least."""
    tau, n, least = _clamp(0.8 - 0.5 * (row.reward - 0.5)), row.rewards, values["tau_min"]
    rate = values["anneal_rate"]
    if values["anneal"] == "none" or least >= tau:
        return tau
    left = {
        "exponential": math.exp(-rate * n), "step": 0.5 ** math.floor(rate * n),
        "linear": max(0.0, 1.0 - rate * n),
    }[str(values["anneal"])]  # fmt: skip
    return float(least + (tau - least) * left)
