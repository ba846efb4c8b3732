"""`soma policy`: what it says of good and bad folders and questions."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agents.commands.policy import policy
from tests.live.helpers import eventually
from tests.opa import endless, opa

SHIPPED = str(Path(__file__).resolve().parents[4] / "ops" / "policies")
ASK = ("--tenant", "t", "--leader", "a", "--weight", "a=.6", "--weight", "b=0.4")


def say(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(policy, words)
    assert done.exit_code == status, done.output
    return done.output


def test_check_tells_digest_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "fit for use, digest" in say("check", SHIPPED)
    monkeypatch.setenv("SOMA_POLICY_DIR", SHIPPED)
    told = json.loads(say("check", "--json"))
    assert set(told) == {"folder", "digest", "decision_us", "opa"}
    assert told["folder"] == SHIPPED and len(told["digest"]) == 16 and told["opa"] is False


def test_check_refuses_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "p.rego").write_text("package soma.policy.integrator\n\nallow := {\n")
    assert "p.rego:3: " in say("check", str(tmp_path), status=1)
    assert "SOMA_POLICY_DIR" in say("check", status=1)


def test_check_asks_a_real_opa_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{opa().parent}{os.pathsep}{os.environ['PATH']}")
    assert "opa agrees" in say("check", SHIPPED)
    text = "package soma.policy.integrator\n\ndefault allow := true\n\nallow if x > 1\n"
    (tmp_path / "p.rego").write_text(text)
    assert "x is unsafe" in say("check", str(tmp_path), status=1)


@pytest.mark.parametrize(
    ("text", "said", "outcome"),
    [
        ("allow := true", "allow\n", "allow"),
        ('allow := false\nrationale := "no"', "deny (no)\n", "deny"),
        ('allow := true\nleader := "b"', "override: b leads\n", "override"),
    ],
)
def test_eval_gives_the_decision(tmp_path: Path, text: str, said: str, outcome: str) -> None:
    (tmp_path / "p.rego").write_text(f"package soma.policy.integrator\n\n{text}\n")
    assert say("eval", str(tmp_path), *ASK) == said
    told = json.loads(say("eval", str(tmp_path), *ASK, "--json"))
    assert set(told) == {"outcome", "leader", "rationale"} and told["outcome"] == outcome


@pytest.mark.parametrize(("fails", "leads"), [("false", ""), ("true", ": a leads")])
def test_eval_reads_the_answer_as_the_processor_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, leads: str
) -> None:
    text = 'allow := true\nleader := "ghost" if input.tenant == "t"'
    (tmp_path / "p.rego").write_text(f"package soma.policy.integrator\n\n{text}\n")
    monkeypatch.setenv("SOMA_OPA_FAIL_OPEN", fails)
    assert say("eval", str(tmp_path), *ASK) == f"error{leads} (override names no fresh domain)\n"


def test_ctrl_c_ends_a_decision_that_would_take_hours(tmp_path: Path) -> None:
    text = "package soma.policy.integrator\ndefault allow := true\n" + endless("slow")
    (tmp_path / "p.rego").write_text(text)
    words = [sys.executable, "-m", "agents.cli", "policy", "eval", str(tmp_path), *ASK]
    words[words.index("t")] = "slow"  # the samples that the policy is tried on aren't
    asked = subprocess.Popen(words)
    try:
        eventually(lambda: _catches_ctrl_c(asked.pid), what="Python begins")
        eventually(lambda: not _catches_ctrl_c(asked.pid), what="it decides")
        asked.send_signal(signal.SIGINT)
        assert asked.wait(30.0) == -signal.SIGINT
    finally:
        asked.kill()
        asked.wait(10.0)


def _catches_ctrl_c(pid: int) -> bool:
    """Whether a process has a handler for SIGINT: Python runs one between its own steps only."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGINT - 1) & 1)


@pytest.mark.parametrize("weight", ["a", "a=", "a=x", "=1", "a=2", "a=-1", "a=nan"])
def test_eval_names_a_wrong_weight(weight: str) -> None:
    told = say("eval", SHIPPED, "--tenant", "t", "--leader", "a", "--weight", weight, status=1)
    assert f"--weight '{weight}'" in told


def test_eval_wants_the_leaders_weight() -> None:
    told = say("eval", SHIPPED, "--tenant", "t", "--leader", "z", "--weight", "a=1", status=1)
    assert "'z' has no weight" in told
