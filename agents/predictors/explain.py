"""One observation in words: what was predicted, what came, how wrong that was, how sure we are."""

import numpy as np
from numpy.typing import NDArray

from agents.kit.asleep import ACTIVE, FREEZE, STATES
from agents.kit.depth import TIME
from agents.kit.explaining import FROZEN, Case, Fields, num, vec
from agents.predictors import rule
from agents.predictors.agent import CALIBRATIONS, NEXT_EVENTS, UPDATES
from agents.predictors.diffusion import LANCZOS_STEPS, LANCZOS_WORK, chebyshev, lanczos, named
from agents.predictors.plans import PlanBook, find
from agents.predictors.settings import SETTINGS

SINGLE, DOUBLE = "<f4", "<f8"
HEAT, MAHAL = (SETTINGS["predictor"].choices[which] for which in (rule.HEAT, rule.MAHAL))
CHEBYSHEV = SETTINGS["heat_method"].choices[0]

Floats = NDArray[np.float64]


def explain(case: Case) -> list[str]:
    """What the law made of an observation; see rule.py and calibration.py."""
    domain = case.record["domain"]
    was, row = case.before.get(domain), case.after[domain]
    if (state := case.state) == STATES[FREEZE]:
        return [FROZEN]
    said = ["It ends the tenant's sleep, which traffic may: from here on the tenant is awake."]
    said = said if case.woken else []
    (update,) = case.outputs[UPDATES]
    seen = _vector(case.record["vector"])
    error = update["error_metric"]
    if was is None or was["dim"] != row["dim"]:
        said += _first(domain, was, row)
    else:
        said += _followed(case, was, row, seen, error)
    said += _confidence(case, was, row, update)
    if state != STATES[ACTIVE]:
        said.append(f"The tenant's sleep is {state}: what comes is predicted and learned by less.")
    for one in case.outputs.get(NEXT_EVENTS, ()):
        what = vec(_vector(one["predicted_state"]))
        said.append(f"Next it expects {what}, with confidence {num(one['confidence'])}.")
    for one in case.outputs.get(CALIBRATIONS, ()):
        said.append(
            f"A calibration record: expected error {num(one['ece_post'])} as published, "
            f"{num(one['ece_pre'])} before calibration, {one['samples']} samples so far."
        )
    return said


def prediction(case: Case, was: Fields) -> Floats:
    """Step 1 of rule.py, by the row as it was: what should come next."""
    last, level = _vector(was["x"]), np.frombuffer(was["level"], DOUBLE)
    if case.values["predictor"] != HEAT:
        return level if case.values["predictor"] == MAHAL else last
    n = last.shape[0]
    kind = SETTINGS["graph"].choices.index(str(case.values["graph"]))
    time, book, found = _time(case), PlanBook(), np.zeros(n)
    book.make(kind, time, n)
    plans = book.plans
    p = find(plans, kind, time, n)
    parts = plans.coefficients[plans.at[p] : plans.at[p] + plans.size[p]]
    if case.values["heat_method"] == CHEBYSHEV:
        spare = np.zeros((3, n))
        chebyshev(named(kind), parts, plans.scale[p], last, n, found, *spare)
    else:
        basis, small = np.zeros((LANCZOS_STEPS + 1, n)), np.zeros((LANCZOS_WORK, LANCZOS_STEPS))
        lanczos(named(kind), parts, plans.scale[p], last, n, found, basis, small)
    return found


def _time(case: Case) -> float:
    """How long heat spread."""
    return float(case.number("diffusion_time") * TIME[STATES.index(case.state)])


def shares(case: Case, was: Fields, row: Fields, seen: Floats) -> Floats:
    """The error of each number by itself; their mean is the observation's."""
    predicted, n = prediction(case, was), seen.shape[0]
    least = rule.resolution_of(_vector(was["x"]), n) if case.values["predictor"] == HEAT else 0.0
    step, ratio = (np.frombuffer(row[name], DOUBLE) for name in ("step", "ratio"))
    each = [slice(i, i + 1) for i in range(n)]
    return np.array(
        [rule.error_of(seen[i], predicted[i], step[i], ratio[i], 1, least) for i in each]
    )


def _vector(data: bytes) -> Floats:
    return np.frombuffer(data, SINGLE).astype(np.float64)


def _first(domain: str, was: Fields | None, row: Fields) -> list[str]:
    neutral = f"the error is {num(rule.NEUTRAL_ERROR)}, as of a guess no better than the level."
    if was is None:
        return [f"It is the first observation of {domain}: nothing was predicted, and {neutral}"]
    return [
        f"Vectors of {domain} had {was['dim']} numbers and have {row['dim']} now: it begins anew, "
        f"nothing was predicted, and {neutral}"
    ]


def _followed(case: Case, was: Fields, row: Fields, seen: Floats, error: float) -> list[str]:
    """The prediction and its error, and the number that was most wrong."""
    predicted, each = prediction(case, was), shares(case, was, row, seen)
    name, time = str(case.values["predictor"]), num(_time(case))
    how = f" (diffusion over a {case.values['graph']} for {time})" if name == HEAT else ""
    k = int(np.argmax(each))
    level, before = (np.frombuffer(one["level"], DOUBLE)[k] for one in (row, was))
    scales = [_scale(one, k) for one in (was, row)]
    return [
        f"{name}{how} predicted {vec(predicted)}; {vec(seen)} came, "
        f"after {vec(_vector(was['x']))}.",
        f"The error is {num(error)}: the mean over {len(each)} of (miss / scale)², each at most "
        f"{num(rule.ERROR_MAX)}.",
        f"Most wrong was number {k + 1}: off by {num(abs(seen[k] - predicted[k]))} where "
        f"{num(scales[1])} is one scale, an error of {num(each[k])}; its level went from "
        f"{num(before)} to {num(level)}, its scale from {num(scales[0])} to {num(scales[1])}.",
    ]


def _scale(row: Fields, k: int) -> float:
    step, ratio = (np.frombuffer(row[name], DOUBLE)[k] for name in ("step", "ratio"))
    return float(rule.CONSISTENT * ratio * step)


def _confidence(case: Case, was: Fields | None, row: Fields, update: Fields) -> list[str]:
    """What is published, and what came true of the confidence before."""
    error, alpha = update["error_metric"], case.number("alpha")
    raw = f"exp(-{num(alpha)} · {num(error)}) = {num(rule.confidence_of(error, alpha))}"
    said = []
    if was is not None and was["samples"] < row["samples"] and was["logit"] is not None:
        true = "came true: the error isn't" if error <= was["median"] else "was wrong: the error is"
        said.append(f"The confidence before it {true} above the usual {num(was['median'])}.")
    if case.values["calibrate"] == "off":
        why = "not calibrated, for `calibrate` is off"
    elif not row["samples"]:
        why = "not calibrated yet: no confidence has been seen to come true or not"
    else:
        why = (
            f"calibrated by slope {num(row['slope'])} and bias {num(row['bias'])}, "
            f"learned from {row['samples']} samples"
        )
    said.append(f"The confidence is {num(update['confidence'])}: {raw}, {why}.")
    return said
