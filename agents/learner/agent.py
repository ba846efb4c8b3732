"""cog.reward.events (rewards, and lessons of frames) -> cog.config.updates: see `law`.

What is learned goes to the processor control as any other change of settings: it checks it, gives
it a version and brings it to the integrator. A reward that has waited for its frame comes once more
into the processor's own source, marked `waited`: there it meets its frame, or becomes a dead letter
like any other record that can't be folded.
"""

import json
import math
from typing import Any

from agents.engine.processor import SEP
from agents.kit import Emit, Reads, Refuse, RowProcessor
from agents.kit.row_counts import Mean
from agents.kit.setting import SHOWN
from agents.learner import law
from agents.learner.law import Learning
from agents.learner.own_settings import SETTINGS

SOURCE, UPDATES = "cog.reward.events", "cog.config.updates"
LESSON = "lesson"
INTEGRATOR, TEMPERATURE, PRIOR = "integrator", "learned_temperature", "prior"
TEACH = "teach"  # the source of rewards made of feedback
AUTHOR = "learner"
PARTS = ("r_task", "r_user", "r_latency", "r_safety", "r_cost", "total")
KITS = ("offset", "log_ms")  # of a record beside its schema's fields
UNSAID = 1.0  # what a learned setting is before anything was learned

NOT_FINITE, NO_ID, BEFORE = "not_finite", "no_frame_id", "after_window"
NO_FRAME, TWICE, NOT_LEARNING = "no_frame", "rewarded_before", "not_learning"
LEARNED, REPORTED = "soma_rewards_total", "soma_learned_settings_total"
REGRET = "soma_learner_regret_ewma"


def reward(row: Learning, event: Any, out: Emit) -> None:
    """Learn from a reward whose frame is in the window; let it wait where that may come."""
    value = _value(event)
    place, number = law.number_of(event.frame_id)
    if number < 0:
        raise Refuse(f"frame_id: {event.frame_id[:SHOWN]!r} is no frame's", NO_ID)
    if place == row.place and number in row.frames:
        k, bit = row.frames.index(number), law.TAUGHT if event.source == TEACH else law.REWARDED
        if row.had[k] & bit:
            what = "a feedback" if bit == law.TAUGHT else "a reward"
            raise Refuse(f"the frame {event.frame_id} has had {what} before", TWICE)
        row.had[k] |= bit
        law.reward(row, value, law.awake(out.asleep))
        out.count(LEARNED)
        _say(row, event, out)
        return
    if place == row.place and row.frames and number < row.frames[-1]:
        _gone(row, event.frame_id, number)
    if event.waited:
        _never_came(row, event.frame_id)
    text = json.dumps(event._asdict() | {"waited": True})
    until = event.log_ms * 1000 + int(out.setting("wait_s")) * law.SECOND
    _send_on(law.wait(row, text, until), out)


def _value(event: Any) -> float:
    """What a reward is worth; refused unless all of it are numbers."""
    for name in PARTS:
        one = getattr(event, name)
        if one is not None and not math.isfinite(one):
            raise Refuse(f"{name}: {one}", NOT_FINITE)
    if event.total is not None:
        return float(event.total)
    return law.total(event.r_task, event.r_user, event.r_latency, event.r_safety, event.r_cost)


def _gone(row: Learning, frame_id: str, number: int) -> None:
    """Refuse a reward for a frame that can't come any more."""
    if number < row.frames[0]:
        text = f"the frame {frame_id} isn't in the tenant's window any more"
        raise Refuse(f"{text}, which begins at {row.place}{row.frames[0]}", BEFORE)
    raise Refuse(f"the tenant has no frame {frame_id}", NO_FRAME)


def _never_came(row: Learning, frame_id: str) -> None:
    """Refuse a reward that has waited for nothing."""
    if not row.frames:
        text = "no frame of the tenant has come: has it `learning` on, and do `lessons` run?"
        raise Refuse(text, NOT_LEARNING)
    raise Refuse(f"the frame {frame_id} hasn't come", NO_FRAME)


def _send_on(texts: list[str], out: Emit) -> None:
    """Send rewards that have waited into the source again."""
    for text in texts:
        known = json.loads(text)
        out.to(SOURCE, {name: one for name, one in known.items() if name not in KITS})


def lesson(row: Learning, frame: Any, out: Emit) -> None:
    """Learn from a frame."""
    if frame.ended:
        for name in row.said:
            _update(frame, name, "", out)
        _send_on(row.waiting, out)
        out.forget()
        return
    window = int(out.setting("window_s") * law.SECOND)
    law.note(row, frame.frame_id, frame.ts, window)
    if part := law.awake(out.asleep):
        law.observe(row, frame.leader, frame.errors, part, out.setting("loss_alpha"))
    _send_on(law.take_waiting(row, frame.frame_id), out)
    _say(row, frame, out)


def _say(row: Learning, record: Any, out: Emit) -> None:
    """Change the settings that what was learned makes others, unless that was done just now."""
    now = record.log_ms * 1000
    if not law.awake(out.asleep) or now - row.said_at < out.setting("every_s") * law.SECOND:
        return
    values = {f"{PRIOR}@{d}": one for d, one in law.priors(row.losses, list(row.losses)).items()}
    if row.rewards:
        how, rate, least = (out.setting(name) for name in ("anneal", "anneal_rate", "tau_min"))
        tau = law.temperature(row.reward)
        values[TEMPERATURE] = law.annealed(tau, row.rewards, how, rate, least)
    gone = [name for name in row.said if name.startswith(PRIOR) and name not in values]
    for name in gone:
        del row.said[name]
        _update(record, name, "", out)
    for name, value in values.items():
        if law.worth_saying(row.said.get(name, UNSAID), value):
            row.said[name] = value
            row.said_at = now
            _update(record, name, f"{value:.6g}", out)


def _update(record: Any, setting: str, value: str, out: Emit) -> None:
    key = f"{record.tenant}{SEP}{INTEGRATOR}.{setting}"
    out.to(UPDATES, {
        "tenant": record.tenant, "setting": setting, "value": value, "author": AUTHOR,
        "ts": record.log_ms * 1000, "processor": INTEGRATOR,
    }, key=key, part=True)  # fmt: skip
    out.count(REPORTED)


def waited(row: Learning, now: int, out: Emit) -> None:
    """The timer's call: rewards have waited long enough."""
    _send_on(law.take_over(row, now), out)


PROCESSOR = RowProcessor(
    "learner", source=SOURCE, sinks=(UPDATES, SOURCE), row=Learning,
    folds={"reward_event": reward, LESSON: lesson}, on_time=waited, settings=SETTINGS, sleeps=True,
    reads=Reads(domain=None),
    reasons={
        NOT_FINITE: "a part of the reward is NaN or infinite",
        NO_ID: "what it names can't be a frame",
        BEFORE: f"it came too late: a tenant's last {law.FRAMES} frames can be rewarded, and none "
        "older than window_s",
        NO_FRAME: "the tenant has no such frame, or none came in wait_s",
        TWICE: "the frame has been rewarded before",
        NOT_LEARNING: "the tenant doesn't learn: its setting `learning` is off, or no frame of its "
        "has come",
    },
    counts={
        LEARNED: "Rewards that met their frames.",
        REPORTED: "Changes of settings that follow from what was learned.",
        REGRET: Mean("regret", "Mean over tenants that learn of their regret's moving average."),
    },
)  # fmt: skip
