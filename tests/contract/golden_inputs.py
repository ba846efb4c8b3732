"""What golden runs are made of: records, junk, settings and ticks, the same on every machine.

Only `random.Random.random` and plain arithmetic make them: neither the samples of the other tests,
nor NumPy's generators (which may change), nor a C library's exp have a part in it.
"""

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar
from zlib import crc32

from agents.engine.plan import Plan
from agents.engine.processor import Decision, Policy, Question
from agents.kit.asleep import STATES
from tests.contract.harness import LOG_MS, TOPIC_ID, Message, Run
from topics import codec

START = 1_700_000_000_000_000  # µs
SECOND = 1_000_000
DAY_MS = 86_400_000
DOMAINS = ("state", "agent", "action")
WRITTEN = 1  # version of the schemas that records are written by: a newer one changes no input

Record = dict[str, Any]
Change = tuple[str, str, str]  # tenant, setting, value
One = TypeVar("One")


def pick(rng: Random, among: Sequence[One]) -> One:
    """One of them; `Random.choice` may draw otherwise in another Python."""
    return among[int(rng.random() * len(among))]


def bell(rng: Random) -> float:
    """Mean 0, variance 1/3, within ±2."""
    return sum(rng.random() for _ in range(4)) - 2.0


def single(number: float) -> float:
    """The nearest float32."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def observations(rng: Random, n: int) -> list[Record]:
    """Vectors of 1 to 17 numbers that drift, jump, pause and change their dimension."""
    clock, keys = START, [(f"t{t}", d) for t in range(3) for d in DOMAINS]
    dims = {key: 1 + int(rng.random() * 17) for key in keys}
    levels = {key: [1000.0 * bell(rng) for _ in range(dim)] for key, dim in dims.items()}
    found = []
    for i in range(n):
        clock += int(rng.random() * 2 * SECOND)
        key = keys[0] if rng.random() < 0.4 else pick(rng, keys)
        if rng.random() < 0.01 and key != keys[0]:
            levels[key] = [bell(rng) for _ in range(1 + int(rng.random() * 17))]
        jump = 50.0 if rng.random() < 0.02 else 1.0
        if rng.random() > 0.05:
            levels[key] = [x + jump * bell(rng) for x in levels[key]]
        late = int(rng.random() * 30 * SECOND) if rng.random() < 0.05 else 0
        vector = struct.pack(f"<{len(levels[key])}f", *levels[key])
        record = {"tenant": key[0], "domain": key[1], "ts": clock - late, "vector": vector}
        found.append(record | {"sequence": i if i % 2 else None})
    return found


def updates(rng: Random, n: int) -> list[Record]:
    """Errors of five domains, the best of which changes; some are late, some fall silent."""
    clock, domains = START, (*DOMAINS, "zeta", "eta.2")
    level = {(t, d): rng.random() for t in range(3) for d in domains}
    found = []
    for i in range(n):
        clock += int(rng.random() * SECOND / 2) + (12 * SECOND if rng.random() < 0.005 else 0)
        t, domain = int(rng.random() * 3), pick(rng, domains[: 2 + i * 4 // n])
        if t == 2 and rng.random() < 0.15:
            domain = f"d{int(rng.random() * 40)}"  # more than a tenant can have
        if rng.random() < 0.02 or (t, domain) not in level:
            level[t, domain] = 2.0 * rng.random()
        error = max(0.0, level[t, domain] + 0.3 * bell(rng)) if rng.random() < 0.95 else 0.0
        late = int(rng.random() * 30 * SECOND) if rng.random() < 0.05 else 0
        found.append({
            "tenant": f"t{t}", "domain": domain, "predictor_type": "heat",
            "error_metric": single(error), "prediction_latency_ms": 1.5, "model_version": "1.0",
            "vector_dim": 3, "confidence": 0.5, "ts": clock - late,
            "observation_id": f"0123abcd-0-{i}" if i % 3 else "",
        })  # fmt: skip
    return found


def frames(rng: Random, n: int) -> list[Record]:
    """Series whose level and spread change, leaders that change, some frames without an error."""
    clock, keys = START, [(f"t{t}", d) for t in range(2) for d in DOMAINS]
    level, spread = {key: rng.random() for key in keys}, dict.fromkeys(keys, 0.05)
    leader = {"t0": "state", "t1": ""}
    found = []
    for i in range(n):
        clock += int(rng.random() * SECOND / 2)
        tenant, domain = key = keys[0] if rng.random() < 0.4 else pick(rng, keys)
        if rng.random() < 0.02:
            level[key], spread[key] = 3.0 * rng.random(), pick(rng, (0.02, 0.1, 0.6))
        if rng.random() < 0.02:
            leader[tenant] = pick(rng, (*DOMAINS, ""))
        errors = {d: level[tenant, d] for d in DOMAINS}
        errors[domain] = single(abs(level[key] + spread[key] * bell(rng)))
        odd = rng.random()
        if odd < 0.01:
            errors[domain] = pick(rng, (1e300, 0.0, 1e-300))
        elif odd < 0.03:
            del errors[domain]
        late = int(rng.random() * 30 * SECOND) if rng.random() < 0.05 else 0
        found.append({
            "frame_id": f"0123abcd-0-{i}", "tenant": tenant, "ts": clock - late, "domain": domain,
            "leader": leader[tenant], "weights": {d: (k + 1) / 6 for k, d in enumerate(errors)},
            "errors": errors, "confidence": single(rng.random()), "entropy": 0.5,
            "regret_bound": 1.0, "dwell_ms": 0, "veto": "none", "rationale": "",
            "observation_id": "", "config_version": 0,
        })  # fmt: skip
    return found


MAKERS = {"predictors": observations, "integrator": updates, "segmentation": frames}
# Fields of each source with values that are wrong, or odd.
WRONG: dict[str, list[Record]] = {
    "predictors": [
        {"vector": b""}, {"vector": b"\0\0\0"}, {"vector": bytes(4 * 32_769)},
        {"vector": bytes.fromhex("0000c07f")}, {"vector": bytes.fromhex("0000803f0000807f")},
    ],
    "integrator": [
        {"error_metric": -1.0}, {"error_metric": float("nan")}, {"error_metric": float("inf")},
        {"predictor_type": "x" * 1025},
    ],
    "segmentation": [
        {"rationale": "x" * 1025}, {"domain": "none"}, {"confidence": float("nan")},
        {"errors": {"state": float("nan"), "agent": float("inf"), "action": -1.0}},
    ],
}  # fmt: skip
ALIKE: list[Record] = [
    {"tenant": "t" * 129}, {"tenant": ""}, {"domain": "a b"}, {"domain": "ä"},
    {"ts": 946_684_799_999_999}, {"ts": (LOG_MS + 30 * DAY_MS) * 1000},
]  # fmt: skip


def junk(plan: Plan, rng: Random, record: Record) -> tuple[bytes | None, bytes | None]:
    """A key and a value that aren't right, or not here."""
    key, value = record["tenant"].encode(), codec.encode(plan.schema, record, WRITTEN)
    unknown = b"\0\0\0\x01\x4d" + value[5:]
    wrong = [record | fields for fields in (*ALIKE, *WRONG[plan.processor.name])]
    values = [codec.encode(plan.schema, one, WRITTEN) for one in wrong]
    texts = [json.dumps(codec.to_json(plan.schema, one)).encode() for one in wrong[:2]]
    values += [value[: len(value) // 2], value + b"\0", value[:3], b"", b"no record", b"{", *texts]
    values += [value.replace(key, b"t\xff", 1)]
    values += [b'{"tenant": 1, "domain": "state"}', unknown if plan.public else value[:-1]]
    pairs: list[tuple[bytes | None, bytes | None]] = [(key, one) for one in values]
    return pick(rng, [*pairs, (key, None), (b"elsewhere", value), (None, value), (b"t9", value)])


@dataclass(frozen=True)
class Scenario:
    """A processor with settings for everybody, and what changes on the way, one after the other."""

    processor: str
    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    policy: Policy | None = None
    records: int = 900
    sleeps: bool = False  # whether its tenants sleep now and then


@dataclass(frozen=True)
class Phase:
    """A part of a log, all of it appended at one time; batches aren't cut across its ends."""

    log_ms: int
    messages: list[Message]


SLEEPS_EVERY = 25  # records
PHASES = ((0.0, LOG_MS), (0.5, LOG_MS + 3_600_000), (0.8, LOG_MS + 3 * DAY_MS))


def setting(tenant: str, name: str, value: str) -> tuple[bytes, bytes]:
    """Key and value of a control record that changes a setting."""
    fields = {"tenant": tenant, "setting": name, "value": value, "author": "", "ts": START}
    return tenant.encode(), codec.encode("control_setting", fields, 1)


def answer(tenant: str, asked: str, outcome: str, leader: str = "") -> tuple[bytes, bytes]:
    """Key and value of a control record with a remote policy's answer."""
    fields = {"tenant": tenant, "id": asked, "outcome": outcome, "leader": leader, "ts": START}
    return tenant.encode(), codec.encode("control_answer", fields | {"rationale": "because"})


def tick(ts: int) -> tuple[bytes, bytes]:
    """Key and value of a tick."""
    return b"", codec.encode("control_tick", {"ts": ts})


def asleep(k: int) -> tuple[bytes, bytes]:
    """Key and value of the k-th control record that lets a tenant sleep, or wakes it."""
    tenant, state = f"t{k % 3}", STATES[k // 3 % len(STATES)]
    fields = {"tenant": tenant, "state": state, "version": k, "wake_on_traffic": k % 2 > 0}
    return tenant.encode(), codec.encode("control_sleep", fields | {"ts": START})


def refused(log_ms: int) -> list[tuple[bytes, bytes]]:
    """Control records that can't act."""
    later = f"{TOPIC_ID[:8]}-0-999999"
    return [
        setting("t0", "no_such_setting", "1"),
        setting("t0", "forget_after_s", "-1"),
        setting("no good", "forget_after_s", "5000"),
        tick(log_ms * 1000 + 3_600_000_001),
        answer("t0", later, "allow"),
        answer("t0", f"{TOPIC_ID[:8]}-0-0", "perhaps"),
        answer("*", f"{TOPIC_ID[:8]}-0-0", "allow"),
    ]


def written(plan: Plan, scenario: Scenario) -> list[Phase]:
    """The log of a scenario."""
    rng, processor = Random(f"{scenario.processor} {scenario.name}"), plan.processor.name
    records = MAKERS[processor](rng, scenario.records)
    changes = iter(scenario.changes)
    every = len(records) // (len(scenario.changes) + 1)
    base = [setting("*", *one) for one in scenario.settings.items()]
    phases: list[Phase] = []
    for i, record in enumerate(records):
        if len(phases) < len(PHASES) and i >= PHASES[len(phases)][0] * len(records):
            phases.append(Phase(PHASES[len(phases)][1], []))
            # What was silent for longer than it may be is forgotten at once.
            lines: list[tuple[bytes | None, bytes | None]] = []
            lines += [tick(phases[-1].log_ms * 1000)] if len(phases) > 1 else base
        phase, value = phases[-1], codec.encode(plan.schema, record, WRITTEN)
        odd = rng.random()
        if odd < 0.03:
            value = json.dumps(codec.to_json(plan.schema, record)).encode()
        elif odd < 0.08:
            lines.append(junk(plan, rng, record))
        elif odd < 0.09:
            lines.append(pick(rng, refused(phase.log_ms)))
        lines.append((record["tenant"].encode(), value))
        if i % every == every - 1 and (change := next(changes, None)) is not None:
            lines.append(setting(*change))
        if scenario.sleeps and i % SLEEPS_EVERY == SLEEPS_EVERY - 1:
            lines.append(asleep(i // SLEEPS_EVERY + 1))
        for key, text in lines:
            offset = sum(len(one.messages) for one in phases)
            phase.messages.append(Message(offset, key, text, headers(rng)))
        lines = []
    return phases


def headers(rng: Random) -> list[tuple[str, bytes | None]]:
    """Mostly none; now and then how often a record was forwarded."""
    if rng.random() < 0.9:
        return []
    return [("trace", b"0af7"), ("none", None), ("soma-hops", b"%d" % (rng.random() * 6))]


@dataclass(frozen=True)
class Judge:
    """A pure policy that says all there is to say; remote, `answered` asks it."""

    remote: bool = False
    fail_open: bool = False
    digest: str = "judge"

    def judged(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        lot = crc32(f"{tenant} {leader} {round(8 * weights[leader])}".encode())
        outcome = ("allow", "deny", "override", "error")[lot % 4]
        other = pick(Random(lot), sorted([*weights, "nobody"]))
        return Decision(outcome, other if outcome == "override" else "", f"{leader}: {outcome} …")

    def decide(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        if self.remote:
            raise TypeError("a remote policy decides elsewhere")
        return self.judged(tenant, leader, weights)


def answered(plan: Plan, phases: Iterable[Phase], policy: Judge) -> list[Phase]:
    """The same log, with answers behind the records that asked; some come late, or twice."""
    run, found = Run(plan), []
    for phase in phases:
        lines: list[Message] = []
        for lo in range(0, len(phase.messages), 20):
            part = [
                replace(one, offset=run.next + k)
                for k, one in enumerate(phase.messages[lo : lo + 20])
            ]
            run.feed([part], phase.log_ms)
            asked = [
                Message(run.next + k, *_said(question, policy))
                for k, question in enumerate(run.last.questions * 2)
                if (crc32(question.id.encode()) + run.next) % 3
            ]
            asked = [replace(one, offset=run.next + k) for k, one in enumerate(asked)]
            run.feed([asked], phase.log_ms)
            lines += part + asked
        found.append(Phase(phase.log_ms, lines))
    return found


def _said(question: Question, policy: Judge) -> tuple[bytes, bytes]:
    decision = policy.judged(question.tenant, question.leader, question.weights)
    return answer(question.tenant, question.id, decision.outcome, decision.leader)


def _predictors() -> list[Scenario]:
    """Each model, graph and method; what else can be set, set on the way."""
    changes = (
        ("t0", "calibrate_every", "50"), ("t1", "predictor", "mahal"), ("t0", "alpha", "0.5"),
        ("t1", "forget_after_s", "600"), ("t2", "calibrate", "off"), ("*", "graph", "ring"),
        ("t1", "next_events", "off"), ("t0", "forgetting", "0.2"), ("t2", "calibrate", "on"),
        ("t1", "predictor", ""), ("t0", "heat_method", "lanczos"), ("*", "diffusion_time", "1.5"),
        ("t2", "predictor", "persistence"), ("t1", "next_events", ""), ("*", "graph", ""),
        ("*", "predictor", "mahal"), ("*", "predictor", "heat"), ("t0", "alpha", ""),
    )  # fmt: skip
    heat = [
        Scenario("predictors", f"heat {graph} {method}", {"graph": graph, "heat_method": method})
        for graph in ("path", "ring", "star", "none")
        for method in ("chebyshev", "lanczos")
    ]
    more = {
        "mahal": {"predictor": "mahal", "calibrate_every": "50"},
        "persistence": {"predictor": "persistence", "forgetting": "0.0"},
        "heat far": {"diffusion_time": "10", "graph": "ring"},
        "heat still": {"diffusion_time": "0", "alpha": "1000"},
        "uncalibrated": {"calibrate": "off", "next_events": "off", "alpha": "0"},
    }
    others = [Scenario("predictors", name, values) for name, values in more.items()]
    others.append(Scenario("predictors", "asleep", {"sleep_after_s": "600"}, sleeps=True))
    return [*heat, *others, Scenario("predictors", "changes", {"forget_after_s": "7200"}, changes)]


def _integrator() -> list[Scenario]:
    """Each rule and policy; what else can be set, set on the way."""
    changes = (
        ("t0", "fusion", "hedge"), ("t1", "alpha", "1.25"), ("*", "share", "0.05"),
        ("t2", "temperature", "0.5"), ("t0", "entropy_cap", "0.6"), ("t1", "margin", "0.0"),
        ("t0", "min_dwell_ms", "2000"), ("t2", "stale_after_ms", "1500.5"),
        ("t1", "forget_after_s", "45"), ("t1", "alpha", ""), ("t0", "veto_retry_ms", "20000"),
        ("*", "fusion", "softmax"), ("t0", "fusion", ""), ("t1", "fusion", "fixed_share"),
        ("t2", "drift", "off"), ("*", "fusion", ""), ("t2", "drift", "on"), ("t2", "drift", ""),
    )  # fmt: skip
    drift = {"drift_entropy": "0.1", "drift_regret": "0.0", "drift_cooldown_s": "5"}
    rules = ("fixed_share", "hedge", "softmax")
    found = [
        Scenario("integrator", f"{rule} {name}", {"fusion": rule, "margin": "0.01"}, (), policy)
        for rule in rules
        for name, policy in (("no policy", None), ("embedded", Judge()), ("remote", Judge(True)))
    ]
    more = [("changes", None), ("changes embedded", Judge(fail_open=True))]
    more += [("changes remote", Judge(remote=True, fail_open=True))]
    retry = {"veto_retry_ms": "1000", "forget_after_s": "7200"}
    found += [Scenario("integrator", name, retry, changes, policy) for name, policy in more]
    learned = (
        ("t0", "learned_temperature", "0.4"), ("t1", f"prior@{DOMAINS[0]}", "0.25"),
        ("*", f"prior@{DOMAINS[1]}", "0.5"), ("*", "prior", "0.8"), ("t1", "prior", "0.1"),
        ("t0", "learned_temperature", ""), ("*", f"prior@{DOMAINS[1]}", ""),
    )  # fmt: skip
    found.append(Scenario("integrator", "learned", retry, learned))
    rollback = (("t0", "temperature", "50"), ("t1", "fusion", "softmax"), ("t0", "share", "0.9"))
    rolling = drift | {"auto_rollback": "on"}
    found += [
        Scenario("integrator", "drift", drift | {"stale_after_ms": "1e9"}, rollback, None, 1500),
        Scenario("integrator", "rollback", rolling, rollback, None, 1500),
        Scenario("integrator", "rollback embedded", rolling, rollback, Judge(), 1500),
    ]
    return found


def _segmentation() -> list[Scenario]:
    """Each law alone and all together; what else can be set, set on the way."""
    changes = (
        ("t0", "cpd@agent", "bocpd"), ("t0", "hmm@state", "on"), ("t1", "min_gap_ms", "5000"),
        ("*", "threshold", "on"), ("t0", "glr_bar", "0.5"), ("t1", "max_dwell_ms", "20000"),
        ("t1", "forget_after_s", "60"), ("*", "gradient@state", "0.5"), ("t0", "leader", "off"),
        ("t1", "domains_max", "2"), ("*", "threshold", ""), ("t0", "warmup", "7"),
        ("t0", "glr_floor@state", "0.7"), ("t0", "glr_habituation", "2"), ("*", "hmm", "on"),
        ("t0", "glr_half_life", "50"), ("t0", "bocpd_hazard", "40"), ("t1", "min_gap_ms", ""),
        ("t0", "cpd@agent", ""), ("*", "cpd", "off"),
    )  # fmt: skip
    only = {"leader": "off", "cpd": "off"}
    named = {
        "thresholds": only | {"threshold": "on", "gradient": "0.5", "min_gap_ms": "500"},
        "glr": only | {"cpd": "glr"},
        "glr eager": only | {"cpd": "glr", "glr_bar": "0.2", "glr_persistence": "1"},
        "bocpd": only | {"cpd": "bocpd"},
        "hmm": only | {"hmm": "on", "hmm_stay": "0.99", "hmm_up": "0.55", "hmm_down": "0.45"},
        "leader": {"cpd": "off", "min_gap_ms": "1000", "domains_max": "2"},
        "dwell": only | {"max_dwell_ms": "10000", "warmup": "20"},
        "all": {"cpd": "bocpd", "hmm": "on", "threshold": "on", "gradient": "1"},
    }
    found = [Scenario("segmentation", name, s, (), None, 1500) for name, s in named.items()]
    forgets = {"forget_after_s": "7200"}
    return [*found, Scenario("segmentation", "changes", forgets, changes, None, 1500)]


SCENARIOS = {
    f"{one.processor}: {one.name}": one
    for one in (*_predictors(), *_integrator(), *_segmentation())
}
