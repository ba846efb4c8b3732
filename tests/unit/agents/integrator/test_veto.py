"""The veto: when a policy is asked about a leader, and what each answer does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.engine.processor import RATIONALE_BYTES_MAX, Control, Decision
from agents.policy.bundle import BYTES_MAX, Bundle, digest
from tests.unit.agents.integrator.harness import PLACE, Record, Run, answer, same, setting, tick
from tests.unit.agents.integrator.harness import update as update_
from tests.unit.agents.integrator.samples import START, Whimsical, records

MS, SECOND = 1_000, 1_000_000
ALLOW, DENY = Decision("allow"), Decision("deny", "", "no")
seeds = st.integers(0, 2**32 - 1)


@dataclass
class Says:
    """A pure policy given as a function of the candidate; remembers what it was asked."""

    law: Callable[[str], Decision]
    fail_open: bool = False
    remote: bool = False
    digest: str = "test"
    asked: list[tuple[str, str, Mapping[str, float]]] = field(default_factory=list)

    def decide(self, tenant: str, leader: str, weights: Mapping[str, float]) -> Decision:
        self.asked.append((tenant, leader, dict(weights)))
        return self.law(leader)


REMOTE = Says(lambda _: ALLOW, remote=True)


def update(domain: str, error: float, ms: int) -> Record:
    return update_("t", domain, error, START + ms * MS)


def lead(run: Run, domain: str, ms: int) -> Record:
    """Make a domain the best and another one bad (softmax); returns the last frame."""
    other = "agent" if domain == "state" else "state"
    return run.feed([update(domain, 0.0, ms), update(other, 9.0, ms)])[-1]


def run_of(law: Callable[[str], Decision], **more: Any) -> tuple[Run, Says]:
    policy = Says(law, **more)
    return Run(policy, fusion="softmax", min_dwell_ms="0", margin="0.1"), policy


def test_it_is_asked_on_the_first_frame_and_at_a_change_only() -> None:
    run, policy = run_of(lambda _: Decision("allow", "", "fine"))
    (first,) = run.feed([update("state", 0.0, 0)])
    assert (first["veto"], first["rationale"], first["leader"]) == ("allow", "fine", "state")
    assert policy.asked == [("t", "state", {"state": 1.0})]
    for k in range(1, 5):
        frame = lead(run, "state", k)
        assert (frame["veto"], frame["rationale"]) == ("none", "")
    frame = lead(run, "agent", 5)
    assert (frame["veto"], frame["leader"], frame["dwell_ms"]) == ("allow", "agent", 0)
    assert len(policy.asked) == 2 and policy.asked[1][1:] == ("agent", frame["weights"])


@pytest.mark.parametrize("remote", [False, True])
def test_every_frame_names_the_policy(remote: bool) -> None:
    run, _ = run_of(lambda _: ALLOW, remote=remote)
    frames = run.feed([update("state", 0.1, k) for k in range(5)])
    assert [frame["policy"] for frame in frames] == ["test"] * 5
    assert [frame["policy"] for frame in Run().feed([update("state", 0.1, 0)])] == [""]


def test_a_denied_first_leader_is_none() -> None:
    run, _ = run_of(lambda _: DENY)
    (frame,) = run.feed([update("state", 0.1, 0)])
    assert (frame["veto"], frame["rationale"]) == ("deny", "no")
    assert (frame["leader"], frame["confidence"], frame["dwell_ms"]) == ("", 0.0, 0)
    (frame,) = run.feed([update("state", 0.1, 999)])
    assert (frame["veto"], frame["leader"], frame["dwell_ms"]) == ("none", "", 0)
    assert same(run.reborn().rows(), run.rows())


def test_a_denied_candidate_is_not_asked_about_again_for_a_while() -> None:
    run, policy = run_of(lambda leader: DENY if leader == "agent" else ALLOW)
    lead(run, "state", 0)
    frame = lead(run, "agent", 100)
    assert (frame["veto"], frame["leader"]) == ("deny", "state") and len(policy.asked) == 2
    assert frame["confidence"] == frame["weights"]["state"]
    for ms in (101, 500, 1099, -899):
        assert lead(run, "agent", ms)["veto"] == "none"
    run = run.reborn(fusion="softmax", min_dwell_ms="0", margin="0.1")
    assert lead(run, "agent", 1099)["veto"] == "none" and len(policy.asked) == 2
    (frame,) = run.feed([update("agent", 0.0, 1100)])
    assert frame["veto"] == "deny" and len(policy.asked) == 3
    (frame,) = run.feed([update("third", 0.0, 1101), update("agent", 9.0, 1101)])[1:]
    assert frame["leader"] == "third" and frame["veto"] == "allow", "another candidate is"


def test_a_stale_leader_stays_when_its_successor_is_denied() -> None:
    run, _ = run_of(lambda leader: DENY if leader == "agent" else ALLOW)
    lead(run, "state", 0)
    (frame,) = run.feed([update("agent", 0.1, 11_000)])
    assert (frame["veto"], frame["leader"], frame["confidence"]) == ("deny", "state", 0.0)
    assert frame["weights"] == {"agent": 1.0} and frame["dwell_ms"] == 11_000
    (frame,) = run.feed([update("third", 0.0, 11_001)])
    assert (frame["leader"], frame["veto"]) == ("third", "allow")


def test_an_override_leads_at_once_and_rests_the_candidate() -> None:
    run, policy = run_of(
        lambda leader: Decision("override", "third") if leader == "agent" else ALLOW
    )
    run.feed([update("third", 1.0, 0)])
    lead(run, "state", 1)
    frame = lead(run, "agent", 10)
    assert (frame["veto"], frame["leader"], frame["dwell_ms"]) == ("override", "third", 0)
    assert frame["confidence"] == frame["weights"]["third"]
    count = len(policy.asked)
    assert lead(run, "agent", 500)["leader"] == "third" and len(policy.asked) == count
    assert lead(run, "agent", 1010)["dwell_ms"] == 1000, "it led already: its dwell goes on"


@pytest.mark.parametrize("fail_open", [False, True])
@pytest.mark.parametrize(
    ("decision", "why"),
    [
        (Decision("error", "", "broken"), "broken"),
        (Decision("override", "nobody", "x"), "override names no fresh domain"),
    ],
)
def test_an_error_closes_or_opens(decision: Decision, why: str, fail_open: bool) -> None:
    run, _ = run_of(lambda _: decision, fail_open=fail_open)
    (frame,) = run.feed([update("state", 0.1, 0)])
    assert (frame["veto"], frame["rationale"]) == ("error", why)
    assert frame["leader"] == ("state" if fail_open else "")


def test_a_rationale_is_cut_at_a_character() -> None:
    run, _ = run_of(lambda _: Decision("allow", "", "é" * 300))
    (frame,) = run.feed([update("state", 0.1, 0)])
    assert frame["rationale"] == "é" * (RATIONALE_BYTES_MAX // 2)


def remote() -> Run:
    return Run(REMOTE, fusion="softmax", min_dwell_ms="0", margin="0.1")


def again(run: Run) -> Run:
    return run.reborn(fusion="softmax", min_dwell_ms="0", margin="0.1")


def asked(run: Run) -> list[tuple[str, str]]:
    return [(question.id, question.leader) for question in run.fold.questions()]


def begun() -> Run:
    """state leads, and nobody waits for an answer."""
    run = remote()
    (frame,) = run.feed([update("state", 0.0, 0)])
    assert (frame["veto"], frame["leader"]) == ("pending", "")
    assert run.control(answer("t", frame["frame_id"], "allow")) == [None]
    return run


def test_a_remote_policy_is_told_one_question_at_a_time() -> None:
    run = begun()
    frame = lead(run, "agent", 10)
    (question,) = run.fold.questions()
    assert question.id == "0011aabb-3-2" and question.leader == "agent" and question.tenant == "t"
    assert frame["veto"] == "pending" and frame["leader"] == "state"
    assert question.weights == frame["weights"]
    run.feed([update("third", 0.0, 2000)])
    assert lead(run, "agent", 5000)["veto"] == "none" and len(run.fold.questions()) == 1
    back = again(run)
    assert back.fold.questions() == [question] and same(back.rows(), run.rows())
    other = Run()
    assert other.load(list(run.rows().items())).fold.questions() == [], "no policy, no question"


def test_an_answer_acts_at_its_place_and_the_next_frame_shows_it() -> None:
    for run in (begun(), again(begun())):
        asking = lead(run, "agent", 10)
        later = again(run)
        for each in (run, later):
            assert each.control(answer("t", asking["frame_id"], "allow")) == [None]
            (frame,) = each.feed([update("agent", 0.0, 30)])
            assert (frame["leader"], frame["veto"], frame["rationale"]) == ("agent", "allow", "")
            assert frame["dwell_ms"] == 20, "from the latest event time before the answer"
            (frame,) = each.feed([update("agent", 0.0, 31)])
            assert frame["veto"] == "none" and each.fold.questions() == []


@pytest.mark.parametrize("outcome", ["deny", "error"])
def test_a_remote_denial_rests_the_candidate(outcome: str) -> None:
    run = begun()
    asking = lead(run, "agent", 10)
    run.control(answer("t", asking["frame_id"], outcome))
    run = again(run)
    frames = [lead(run, "agent", ms) for ms in (20, 1009)]
    assert [f["leader"] for f in frames] == ["state", "state"] and asked(run) == []
    (frame,) = run.feed([update("agent", 0.0, 1010)])
    assert frame["veto"] == "pending" and asked(run) == [(frame["frame_id"], "agent")]


def test_a_candidate_that_fell_behind_or_silent_is_not_made_leader() -> None:
    behind, silent = begun(), begun()
    ids = [lead(run, "agent", 10)["frame_id"] for run in (behind, silent)]
    lead(behind, "state", 20)
    silent.feed([update("state", 0.0, 10_011)])
    for run, name in zip((behind, silent), ids, strict=True):
        assert run.control(answer("t", name, "allow")) == [None]
        (frame,) = run.feed([update("state", 0.0, 10_012)])
        assert (frame["leader"], frame["veto"]) == ("state", "none")
    # An override needs a fresh domain only; a name that isn't fresh is an error.
    for leader, veto in (("state", "override"), ("agent", "override"), ("gone", "error")):
        run = begun()
        name = lead(run, "agent", 10)["frame_id"]
        run.control(answer("t", name, "override", leader))
        (frame,) = run.feed([update("state", 9.0, 11)])
        assert frame["veto"] == veto
        assert frame["leader"] == (leader if veto == "override" else "state")


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    run = begun()
    name = lead(run, "agent", 10)["frame_id"]
    before = run.rows()
    run.fold.counted()
    late = [("t", "0011aabb-3-0"), ("t", "0011aabb-3-999"), ("u", name), ("t", "x")]
    assert run.control(*(answer(t, i, "allow") for t, i in late)) == [None] * 4
    assert same(run.rows(), before) and run.fold.tenants() == 1
    assert run.fold.counted() == {"soma_veto_ignored_total": 4}
    run.control(answer("t", name, "deny"), answer("t", name, "allow"))
    assert run.feed([update("agent", 0.0, 11)])[0]["leader"] == "state"


def test_questions_of_forgotten_tenants_are_gone() -> None:
    run = Run(REMOTE, forget_after_s="1")
    run.feed([update_(t, "state", 0.1, START) for t in ("b", "a", "c")])
    assert [q.tenant for q in run.fold.questions()] == ["b", "a", "c"], "oldest first"
    run.control(tick(2**53))
    assert run.fold.questions() == [] and run.rows() == {}


def test_what_is_counted() -> None:
    run, _ = run_of(lambda leader: DENY if leader == "agent" else ALLOW)
    lead(run, "state", 0)
    lead(run, "agent", 10)
    assert run.fold.counted() == {
        "soma_frames_total": 4, "soma_leader_changes_total": 1, "soma_leader_share:state": 4,
        "soma_veto_total:allow": 1, "soma_veto_total:deny": 1,
    }  # fmt: skip
    assert run.fold.counted() == {}


@given(seed=seeds, fail_open=st.booleans())
@settings(max_examples=20, deadline=None)
def test_every_frame_keeps_to_the_rules(seed: int, fail_open: bool) -> None:
    """Vetoes, leaders and silence as the text says, frame by frame, by a pure policy."""
    policy = Whimsical(fail_open=fail_open)
    run = Run(policy, min_dwell_ms="0", margin="0", veto_retry_ms="3000")
    memory: dict[str, tuple[str, str, int]] = {}  # tenant -> leader, denied, when
    for frame in run.feed(records(np.random.default_rng(seed), 200)):
        leader, denied, when = memory.get(frame["tenant"], ("", "", 0))
        weights, t = frame["weights"], frame["ts"]
        if frame["veto"] == "none":
            assert frame["leader"] == leader and frame["rationale"] == ""
        else:
            candidate = frame["rationale"].split()[1] if frame["rationale"][0] != "o" else ""
            if candidate:
                assert weights[candidate] == max(weights.values()) and candidate != leader
                assert candidate != denied or abs(t - when) >= 3 * SECOND
                told = policy.decide(frame["tenant"], candidate, weights)
                assert told.outcome == frame["veto"]
                if told.outcome == "deny" or (told.outcome == "error" and not fail_open):
                    assert frame["leader"] == leader
                    denied, when = candidate, t
                elif told.outcome == "override":
                    assert frame["leader"] == told.leader
                    denied, when = (candidate, t) if told.leader != candidate else (denied, when)
                else:
                    assert frame["leader"] == candidate
            else:
                assert frame["veto"] == "error" and "nobody" not in weights
                top = max(weights, key=lambda d: weights[d])
                assert fail_open or frame["leader"] == leader
                denied, when = (denied, when) if fail_open else (top, t)
        assert frame["confidence"] == weights.get(frame["leader"], 0.0)
        memory[frame["tenant"]] = (frame["leader"], denied, when)


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_cuts_and_recoveries_change_nothing_of_a_remote_policy(seed: int) -> None:
    """Answers come by control records at the same places; between them batches are cut anywhere."""
    rng = np.random.default_rng(seed)
    part = records(rng, 120)
    outcomes = ("allow", "deny", "override", "error")
    runs = [Run(REMOTE, min_dwell_ms="0", margin="0") for _ in range(3)]
    seen: list[list[Any]] = [[], [], []]
    for lo in range(0, 120, 20):
        cuts = [0, *sorted(int(x) for x in rng.integers(0, 20, 3)), 20]
        seen[0] += runs[0].feed(part[lo : lo + 20])
        for a, b in pairwise(cuts):
            seen[1] += runs[1].feed(part[lo + a : lo + b])
        runs[2] = runs[2].reborn([int(k) for k in rng.permutation(len(runs[2].rows()))] or None,
            min_dwell_ms="0", margin="0")  # fmt: skip
        seen[2] += runs[2].feed(part[lo : lo + 20])
        open_ = runs[0].fold.questions()
        assert all(run.fold.questions() == open_ for run in runs)
        assert [q.id.startswith(PLACE.prefix.decode()) for q in open_] == [True] * len(open_)
        for question in open_:
            outcome = str(rng.choice(outcomes))
            leader = str(rng.choice([*question.weights])) if outcome == "override" else ""
            for run in runs:
                assert run.control(answer(question.tenant, question.id, outcome, leader)) == [None]
        for run in runs:
            run.control(setting("*", "margin", "0"))
    assert same(seen[1], seen[0]) and same(seen[2], seen[0])
    assert all(same(run.rows(), runs[0].rows()) for run in runs)


# --- policies that came in band -----------------------------------------------------------

REGO = "package soma.policy.integrator\n"
SAYS = {one: Bundle({"p.rego": f"{REGO}allow := {one}\nrationale := `{one}`\n"}).text
        for one in ("true", "false")}  # fmt: skip


def put(tenant: str, text: str, version: int = 0) -> Control:
    return replace(setting(tenant, "policy", text), version=version)


def test_a_policy_in_band_acts_from_its_record_on_and_counts_before_the_deployments() -> None:
    run, deployed = run_of(lambda _: ALLOW)
    assert lead(run, "state", 0)["policy"] == "test"
    assert run.control(put("*", SAYS["false"], 9)) == [None]
    frame = lead(run, "agent", 5)
    assert (frame["veto"], frame["rationale"], frame["leader"]) == ("deny", "false", "state")
    assert (frame["policy"], frame["config_version"]) == (digest(SAYS["false"]), 9)
    assert len(deployed.asked) == 1
    assert run.control(put("t", SAYS["true"], 11)) == [None]
    (frame,) = run.feed([update("agent", 0.0, 9_000)])
    assert (frame["veto"], frame["leader"]) == ("allow", "agent")
    assert (frame["policy"], frame["config_version"]) == (digest(SAYS["true"]), 11)
    other = run.feed([update_("u", "x", 0.1, START)])[0]
    assert (other["veto"], other["leader"], other["policy"]) == ("deny", "", digest(SAYS["false"]))
    assert run.control(put("t", ""), put("*", "")) == [None, None]
    assert lead(run, "state", 99_000)["policy"] == "test" and len(deployed.asked) == 2


def test_who_has_no_policy_is_not_asked_about_beside_one_who_has() -> None:
    run = Run(fusion="softmax", min_dwell_ms="0", margin="0.1")
    assert run.control(put("t", SAYS["false"])) == [None]
    mine, other = run.feed([update_("t", "x", 0.1, START), update_("u", "x", 0.1, START)])
    assert (mine["veto"], mine["leader"], mine["policy"]) == ("deny", "", digest(SAYS["false"]))
    assert (other["veto"], other["leader"], other["policy"]) == ("none", "x", "")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("package soma.policy.integrator\nallow := {", "policy.rego:2"),
        ('{"modules": {}}', "1 to 100 modules"),
        ('{"modules": {"a": "x"}, "colour": 1}', "no 'colour'"),
        ("{", "a policy is Rego, or JSON"),
        ("x" * (BYTES_MAX + 1), "64 KiB at most"),
    ],
)
def test_one_that_cannot_be_used_leaves_the_old_one(text: str, why: str) -> None:
    run = Run()
    assert run.control(put("*", SAYS["false"])) == [None]
    before = run.rows()
    (refused,) = run.control(put("*", text))
    assert refused is not None and why in refused
    assert same(run.rows(), before) and lead(run, "state", 0)["policy"] == digest(SAYS["false"])


def test_a_partition_has_so_much_room_for_policies() -> None:
    run = Run()
    long = [
        Bundle({"p.rego": f"{REGO}allow := true # {k} {'x' * 60_000}\n"}).text for k in range(10)
    ]
    said = run.control(*(put(f"t{k}", text) for k, text in enumerate(long)))
    assert said[:8] == [None] * 8 and all(why and "512 KiB" in why for why in said[8:])
    assert run.control(put("t9", long[0])) == [None]  # there already


def test_an_open_question_to_a_server_lapses_when_a_policy_in_band_decides() -> None:
    run, _ = run_of(lambda _: ALLOW, remote=True)
    frame = lead(run, "state", 0)
    assert frame["veto"] == "none" and len(run.fold.questions()) == 1
    (asked,) = run.fold.questions()
    assert run.control(put("*", SAYS["true"])) == [None]
    assert lead(run, "state", 5)["leader"] == "state" and not run.fold.questions()
    before = run.rows()
    assert run.control(answer("t", asked.id, "override", "agent")) == [None]
    assert same(run.rows(), before)


@given(seed=seeds, cuts=st.lists(st.integers(0, 80), max_size=4))
@settings(max_examples=15, deadline=None)
def test_frames_and_rows_hang_neither_on_cuts_nor_on_restarts(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    given, at = records(rng, 80), {}
    for _ in range(5):
        tenant = str(rng.choice(["*", *{one["tenant"] for one in given}]))
        text = str(rng.choice(["", *SAYS.values()]))
        at.setdefault(int(rng.integers(80)), []).append(put(tenant, text))

    def frames(edges: set[int]) -> tuple[list[Record], Run]:
        run, found, lo = Run(Whimsical()), [], 0
        for hi in sorted({*edges, *at, 80}):
            found += run.feed(given[lo:hi])
            run.control(*at.get(hi, ()))
            run = run.reborn() if hi in edges else run
            lo = hi
        return found, run

    (whole, one), (cut, other) = frames(set()), frames(set(cuts))
    assert same(whole, cut) and same(one.rows(), other.rows())
    assert {frame["policy"] for frame in whole} <= {*map(digest, SAYS.values()), "whim", ""} | {
        Whimsical().digest
    }
