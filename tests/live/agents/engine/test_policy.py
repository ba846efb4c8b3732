"""A policy that vetoes in a real worker: embedded, and asked over HTTP, with what goes wrong."""

import contextlib
import itertools
import json
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.settings import Settings
from ops.stack.ports import free_port
from tests.live.conftest import WorkerFactory
from tests.live.helpers import Worker, eventually, produce, read, topics_of
from tests.opa import PolicyServer, endless, opa_server
from topics import codec
from topics.partition import partition_of

MADE = topics_of("integrator")

START = 1_769_860_800_000_000
TEXT = """package soma.policy.integrator

default allow := true

allow := false if input.candidate.leader == "agent"

leader := "action" if {
	input.tenant == "other"
	input.candidate.leader == "state"
	input.candidate.weights.action
}

rationale := sprintf("%s is asked about %s", [input.tenant, input.candidate.leader])
"""
MODULES = {"p.rego": TEXT}
PARTITIONS = 4  # two that are stuck, and two that go on


def update(tenant: str, domain: str, second: int, error: float) -> dict[str, Any]:
    return {
        "tenant": tenant, "domain": domain, "predictor_type": "heat", "error_metric": error,
        "prediction_latency_ms": 1.0, "model_version": "1.0", "vector_dim": 1, "confidence": 0.5,
        "observation_id": "", "ts": START + second * 1_000_000,
    }  # fmt: skip


def say(settings: Settings, *updates: dict[str, Any]) -> None:
    records = [(u["tenant"].encode(), codec.encode("predictor_update", u)) for u in updates]
    produce(settings, "cog.predictor.updates", records)


def frames(settings: Settings, tenant: str = "") -> list[dict[str, Any]]:
    found = [codec.decode(m.value() or b"")[1] for m in read(settings, "cog.global.frame")]
    return [frame for frame in found if tenant in ("", frame["tenant"])]


def controls(settings: Settings) -> list[dict[str, Any]]:
    """The answers in the integrator's input, in order."""
    found = [codec.decode(m.value() or b"") for m in read(settings, "cog.predictor.updates")]
    return [record for name, record in found if name == "control_answer"]


def metric(worker: Worker, line: str) -> float:
    """The value of a metric, by the text before it; 0 if it isn't there."""
    with urllib.request.urlopen(worker.url("/metrics"), timeout=5.0) as page:
        for one in page.read().decode().splitlines():
            if one.startswith(line + " "):
                return float(one.rpartition(" ")[2])
    return 0.0


def test_an_embedded_policy_denies_and_overrides(
    topics: Settings, worker: WorkerFactory, tmp_path: Path
) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "p.rego").write_text(TEXT)
    one = worker(SOMA_AGENTS="integrator", SOMA_POLICY_DIR=str(tmp_path / "policy"))
    say(topics, update("t", "agent", 0, 0.1), update("t", "state", 1, 0.1))
    say(topics, *(update("t", "agent", second, 9.0) for second in range(2, 6)))
    say(topics, update("other", "action", 0, 0.1), update("other", "state", 1, 0.1))
    say(topics, *(update("other", "action", second, 9.0) for second in range(2, 6)))
    eventually(lambda: len(frames(topics)) == 12)
    mine = frames(topics, "t")
    assert (mine[0]["veto"], mine[0]["leader"]) == ("deny", "")
    assert mine[0]["rationale"] == "t is asked about agent"
    assert mine[-1]["leader"] == "state" and "agent" not in {frame["leader"] for frame in mine}
    assert "allow" in {frame["veto"] for frame in mine}
    eventually(lambda: metric(one, 'soma_veto_total{decision="deny"}') >= 1)
    others = frames(topics, "other")
    assert {frame["leader"] for frame in others} == {"action"}
    assert "override" in {frame["veto"] for frame in others}
    assert metric(one, "soma_frames_total") == 12
    epochs = [codec.decode(m.value() or b"")[1] for m in read(topics, "soma.epochs")]
    assert {len(epoch["policy"]) for epoch in epochs} == {16}
    assert one.stop() == 0


def test_a_decision_without_end_holds_up_its_own_partition_only(
    topics: Settings, worker: WorkerFactory, tmp_path: Path
) -> None:
    """More partitions are stuck than the worker has threads; the lag and the log say which."""
    (tmp_path / "policy").mkdir()
    text = "package soma.policy.integrator\ndefault allow := true\n" + endless("slow")
    (tmp_path / "policy" / "p.rego").write_text(text)
    more = {"SOMA_AGENTS": "integrator", "SOMA_THREADS": "1"}
    one = worker(SOMA_POLICY_DIR=str(tmp_path / "policy"), **more)
    slow, quick = [tenant_of(n, "slow") for n in (0, 1)], [tenant_of(n, "quick") for n in (2, 3)]
    say(topics, *(update(tenant, "state", 0, 0.1) for tenant in slow))
    for tenant in slow:
        eventually(lambda t=tenant: f"about tenant {t}, leader state" in one.tail(), what=tenant)
    say(topics, *(update(tenant, "agent", second, 0.1) for tenant in slow for second in range(3)))
    say(topics, *(update(tenant, "state", second, 0.1) for tenant in quick for second in range(3)))
    eventually(lambda: len(frames(topics)) == 6)
    assert {frame["tenant"] for frame in frames(topics)} == set(quick)
    assert {frame["leader"] for frame in frames(topics)} == {"state"}
    lags = [
        f'soma_processor_lag_records{{partition="{n}",processor="integrator"}}'
        for n in range(PARTITIONS)
    ]
    eventually(lambda: [metric(one, lag) for lag in lags] == [4.0, 4.0, 0.0, 0.0])
    assert one.ready() and one.stop() == 0


def tenant_of(partition: int, kind: str) -> str:
    """A tenant that lives in this partition."""
    names = (f"{kind}{k}" for k in itertools.count())
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


def test_a_worker_refuses_a_policy_that_does_not_compile(
    topics: Settings, worker: WorkerFactory, tmp_path: Path
) -> None:
    (tmp_path / "p.rego").write_text("package soma.policy.integrator\n\nallow := {\n")
    one = worker(ready=False, SOMA_AGENTS="integrator", SOMA_POLICY_DIR=str(tmp_path))
    eventually(lambda: not one.alive, 60.0, "the worker ends")
    assert one.process.returncode != 0 and "p.rego:3: " in one.tail()


@contextlib.contextmanager
def server_of(kind: str, folder: Path) -> Iterator[str]:
    """The URL of our own policy server, or of a real OPA."""
    if kind == "ours":
        with PolicyServer(MODULES) as ours:
            yield ours.url
        return
    (folder / "p.rego").write_text(TEXT)
    port = free_port()
    with opa_server(folder, port) as url:
        eventually(lambda: answers(port), what="OPA listens")
        yield url


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


@pytest.mark.parametrize("kind", ["ours", "opa"])
def test_a_remote_policy_answers_in_band(
    topics: Settings, worker: WorkerFactory, tmp_path: Path, kind: str
) -> None:
    with server_of(kind, tmp_path) as url:
        one = worker(SOMA_AGENTS="integrator", SOMA_OPA_URL=url)
        say(topics, update("t", "state", 0, 0.1), update("u", "agent", 0, 0.1))
        eventually(lambda: len(controls(topics)) == 2)
        told = {record["tenant"]: record for record in controls(topics)}
        assert (told["t"]["outcome"], told["u"]["outcome"]) == ("allow", "deny")
        assert told["t"]["rationale"] == "t is asked about state"
        say(topics, update("t", "state", 0, 0.1), update("u", "agent", 0, 0.1))
        eventually(lambda: len(frames(topics)) == 4)
        first, then = frames(topics, "t")
        assert (first["veto"], first["leader"], then["leader"]) == ("pending", "", "state")
        assert [frame["leader"] for frame in frames(topics, "u")] == ["", ""]
        assert told["t"]["id"] == first["frame_id"]
        eventually(lambda: metric(one, _answered("allow")) == 1)
        assert one.stop() == 0


def _answered(outcome: str) -> str:
    return f'soma_policy_answers_total{{outcome="{outcome}",processor="integrator"}}'


def test_no_answer_in_time_and_nonsense_deny_until_the_server_is_back(
    topics: Settings, worker: WorkerFactory
) -> None:
    port = free_port()
    more = {"SOMA_AGENTS": "integrator", "SOMA_OPA_TIMEOUT_S": "0.5"}
    with PolicyServer(MODULES, port) as server:
        server.says = "slow"
        one = worker(SOMA_OPA_URL=server.url, **more)
        say(topics, update("slow", "state", 0, 0.1))
        eventually(lambda: len(controls(topics)) == 1)
        server.says = 200, b'{"result": {"allow": "perhaps"}}'
        say(topics, update("odd", "state", 0, 0.1))
        eventually(lambda: len(controls(topics)) == 2)
    say(topics, update("away", "state", 0, 0.1))
    eventually(lambda: len(controls(topics)) == 3)
    told = {record["tenant"]: record for record in controls(topics)}
    assert {record["outcome"] for record in told.values()} == {"error"}
    assert "no answer within 0.5 s" in told["slow"]["rationale"]
    assert "allow is a string" in told["odd"]["rationale"]
    assert "no answer: " in told["away"]["rationale"]
    with PolicyServer(MODULES, port):
        say(topics, *(update(tenant, "state", 100, 0.1) for tenant in told))
        eventually(lambda: len(controls(topics)) == 6)
        say(topics, *(update(tenant, "state", 101, 0.1) for tenant in told))
        eventually(lambda: len(frames(topics)) == 9)
    for tenant in told:
        assert [frame["leader"] for frame in frames(topics, tenant)] == ["", "", "state"]
    assert one.alive and one.stop() == 0


def test_a_new_owner_asks_again_what_the_killed_one_asked(
    topics: Settings, worker: WorkerFactory
) -> None:
    with PolicyServer(MODULES) as server:
        server.says = "slow"
        more = {"SOMA_AGENTS": "integrator", "SOMA_OPA_URL": server.url, "SOMA_OPA_TIMEOUT_S": "9"}
        one = worker(**more)
        say(topics, update("t", "state", 0, 0.1))
        eventually(lambda: len(server.asked) == 1)
        assert [frame["veto"] for frame in frames(topics)] == ["pending"]  # committed, then asked
        one.kill()
        assert controls(topics) == []
        server.says = "rego"
        two = worker(**more)
        eventually(lambda: len(controls(topics)) == 1)
        assert server.asked[0] == server.asked[1]
        say(topics, update("t", "state", 1, 0.1))
        eventually(lambda: len(frames(topics)) == 2)
        assert frames(topics)[-1]["leader"] == "state"
        forged = controls(topics)[0] | {"outcome": "deny", "id": "ffffffff-0-1"}
        produce(topics, "cog.predictor.updates", [(b"t", codec.encode("control_answer", forged))])
        letters = eventually(lambda: read(topics, "cog.predictor.updates.dlq"))
        assert "ffffffff-0-1" in json.dumps([str(header) for header in letters[0].headers() or []])
        assert two.stop() == 0
