"""One predictor update in words: its round, what each domain weighs now, who leads and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from agents.integrator import rule
from agents.integrator.agent import PROCESSOR
from agents.integrator.order import precedes
from agents.integrator.settings import HEDGE, SETTINGS, SOFTMAX
from agents.kit.asleep import FREEZE, STATES
from agents.kit.depth import TEMPERATURE
from agents.kit.explaining import FROZEN, Case, Fields, num, seconds
from agents.kit.schema import SETTINGS as SETTINGS_FIELD
from agents.kit.setting import AT

FRAMES, DRIFTS, ROLLBACKS = PROCESSOR.sinks
LAWS = SETTINGS["fusion"].choices
NOBODY: Fields = {
    "domains": [], "leader": "", "leader_since": 0, "delta": 0.0, "rounds": 0, "late": 0,
    "fusion": -1, "denied": "", "denied_at": 0,
}  # fmt: skip


class Domain(NamedTuple):
    """One domain's numbers in a row."""

    seen: int  # µs
    error: float
    loss: float
    weight: float
    excess: float
    published: float  # -1: it took no part


def explain(case: Case) -> list[str]:
    """What the law made of an update; see round.py and veto.py."""
    if case.state == STATES[FREEZE]:
        return [FROZEN]
    was, row, (frame,) = case.before.get("", NOBODY), case.after[""], case.outputs[FRAMES]
    domain, law = case.record["domain"], LAWS[row["fusion"]]
    here = domains(row)[domain]
    said = [
        f"Round {row['rounds']} of {law}: {domain} was wrong by {num(here.error)}, a loss of "
        f"1 - exp(-{num(case.number('alpha'))} · {num(here.error)}) = {num(here.loss)}."
    ]
    if was["fusion"] not in (-1, row["fusion"]):
        said.append(f"The law was {LAWS[was['fusion']]} before: what it had learned begins anew.")
    if row["late"] > was["late"]:
        said.append("The update is older than its domain's last one: no clock moves back.")
    said += _weights(case, was, row)
    said.append(_published(case, frame))
    said += _lead(case, was, row, frame)
    return said + _drift(case)


def domains(row: Fields) -> dict[str, Domain]:
    """The domains of a row, in slot order."""
    lists = zip(*(row[name] for name in Domain._fields), strict=True) if row["domains"] else ()
    return {name: Domain(*one) for name, one in zip(row["domains"], lists, strict=True)}


def _weights(case: Case, was: Fields, row: Fields) -> list[str]:
    """How fast the law learns, and what became of each domain's weight."""
    before, now = domains(was), domains(row)
    n = sum(one.published >= 0 for one in now.values())
    said = []
    if n == 1:
        said.append("It is alone: all weight is its own.")
    elif row["fusion"] == SOFTMAX:
        said.append("Weights are softmax(1 - loss), of the last losses alone.")
    else:
        # fixed_share learns by Δ as it was, hedge weighs by Δ as it is.
        old_delta = was["delta"] if was["fusion"] == row["fusion"] else 0.0
        rate = rule.eta(row["delta"] if row["fusion"] == HEDGE else old_delta, n)
        said.append(
            f"The learning rate is ln {n} / Δ = {num(rate)}; Δ goes from {num(old_delta)} to "
            f"{num(row['delta'])}."
        )
    for name, one in now.items():
        if one.published < 0:
            silent = case.record["ts"] - one.seen
            said.append(
                f"  {name} takes no part: silent for {seconds(silent)}, stale_after_ms is "
                f"{num(case.number('stale_after_ms'))}."
            )
            continue
        old = before.get(name)
        then = f"{num(old.weight)} → " if old is not None and old.published >= 0 else "it enters: "
        said.append(
            f"  {name}: error {num(one.error)}, loss {num(one.loss)}, weight {then}"
            f"{num(one.weight)}, {num(one.excess)} behind the best."
        )
    return said


def _published(case: Case, frame: Fields) -> str:
    """What the frame says of the weights."""
    weights = ", ".join(f"{name} {num(one)}" for name, one in frame["weights"].items())
    part, cap = TEMPERATURE[STATES.index(case.state)], case.number("entropy_cap")
    heat = float(case.number("temperature") * case.number("learned_temperature") * part)
    how = "as they are" if heat == 1.0 else f"raised to 1/{num(heat)}"
    if priors := _priors(case):
        said = ", ".join(f"{name} {num(one)}" for name, one in priors.items())
        how = f"by their priors ({said}), {how}"
    limit = f", which the cap holds at {num(cap)} at most" if cap < 1.0 else ""
    return f"Published {how}: {weights}. Their entropy is {num(frame['entropy'])}{limit}."


def _priors(case: Case) -> dict[str, float]:
    """The priors of its own that a tenant has, by domain."""
    begin, own = f"prior{AT}", case.after[""][SETTINGS_FIELD]
    return {name[len(begin) :]: one for name, one in own.items() if name.startswith(begin)}


def challenger(weights: Mapping[str, float]) -> str:
    """Who has the most weight; of equals, by the order of ties."""
    names = list(weights)
    text = [np.frombuffer(name.encode(), np.uint8) for name in names]
    rank = [sum(precedes(b, a) for b in text if b is not a) for a in text]
    return names[rule.top(np.array(list(weights.values())), np.array(rank))]


def _lead(case: Case, was: Fields, row: Fields, frame: Fields) -> list[str]:
    """Who leads, and why."""
    old, new, weights = was["leader"], frame["leader"], frame["weights"]
    first, told = challenger(weights), frame["veto"]
    led = case.record["ts"] - was["leader_since"]
    said = []
    policy = f"The policy ({frame['policy']})"
    if told not in ("none", "pending"):
        why = f": {frame['rationale']}" if frame["rationale"] else ""
        said.append(f"{policy} says {told}{why}.")
    elif told == "pending":
        said.append(f"{policy} is asked whether {first} may lead; its answer comes later.")
    elif frame["policy"]:
        said.append(f"{policy} may veto; it wasn't asked here.")
    if not new:
        return [*said, "Nobody leads."]
    if new == old:
        return [*said, _stays(case, was, weights, first, led)]
    if not old:
        why = "nobody led before"
    elif old not in weights:
        why = f"{old}, which led, has gone silent"
    else:
        ahead = num(weights[new] - weights[old])
        margin, dwell = (case.number(name) for name in ("margin", "min_dwell_ms"))
        why = (
            f"it is ahead of {old} by {ahead} where more than {num(margin)} is asked for, and "
            f"{old} has led for {seconds(led)}, at least {num(dwell)} ms"
        )
    if new != first or told == "override":
        why = f"so the policy wants it; {first} has the most weight"
    return [*said, f"{new} leads from now on with {num(weights[new])}: {why}."]


def _stays(case: Case, was: Fields, weights: Mapping[str, float], first: str, led: int) -> str:
    """Why the leader is who it was."""
    old, margin = was["leader"], case.number("margin")
    stays = f"{old} goes on leading"
    if old == first:
        return f"{stays}, since {seconds(led)}: it has the most weight, {num(weights[old])}."
    if old not in weights:
        return f"{stays}, silent as it is: {first} may not."
    ahead = weights[first] - weights[old]
    if led < case.number("min_dwell_ms") * 1000:
        dwell = num(case.number("min_dwell_ms"))
        short = f"it leads for {seconds(led)} only, of {dwell} ms at least"
        return f"{stays}: {first} is ahead by {num(ahead)}, but {short}."
    if ahead <= margin:
        return f"{stays}: {first} is ahead by {num(ahead)}, no more than the margin {num(margin)}."
    if was["denied"] == first:
        return f"{stays}: the policy has denied {first}, and isn't asked again yet."
    return f"{stays}: {first} may not."


def _drift(case: Case) -> list[str]:
    """Events about the fusion as a whole."""
    said = [
        f"The fusion drifts: its mean {one['kind']} {num(one['value'])} is above "
        f"{num(one['threshold'])}."
        for one in _of(case, DRIFTS)
    ]
    for one in _of(case, ROLLBACKS):
        taken = ", ".join(f"{name} {one['from'][name] or 'unset'} → {one['to'][name] or 'unset'}"
                          for name in one["from"])  # fmt: skip
        said.append(f"Its own settings go back to those that worked: {taken}.")
    return said


def _of(case: Case, topic: str) -> Sequence[Fields]:
    return case.outputs.get(topic, ())
