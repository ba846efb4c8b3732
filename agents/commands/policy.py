"""`soma policy`: try a veto's policy out before it decides anything."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import click

from agents.commands.policy_set import get, history, set_, unset
from agents.settings import SettingsError, load
from agents.tools.signals import ENDING, handled

DIR = click.Path(exists=True, file_okay=False, path_type=Path)
TIMED = 200  # decisions of which the median time is told

_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def policy() -> None:
    """Check the Rego policy that may veto a new leader, ask it, and set it while workers run.

    DIR is a folder of .rego files; left out, it is SOMA_POLICY_DIR.
    """


for _command in (set_, unset, get, history):
    policy.add_command(_command)


@policy.command()
@click.argument("folder", metavar="[DIR]", required=False, type=DIR)
@_json
def check(folder: Path | None, as_json: bool) -> None:
    """Compile DIR and try it out, as a worker does at its start.

    Where an `opa` is on the PATH, its stricter compiler (`opa check --strict`) looks at it too.

    \b
    Example:
      soma policy check ops/policies
    """
    found, place = _load(folder)
    asked = {"state": 0.5, "agent": 0.3, "action": 0.2}
    times = []
    with handled(signal.SIG_DFL, *ENDING):
        for _ in range(TIMED):
            began = time.perf_counter()
            found.decide("probe", "state", asked)
            times.append(time.perf_counter() - began)
    shown: dict[str, Any] = {
        "folder": str(place),
        "digest": found.digest,
        "decision_us": round(sorted(times)[TIMED // 2] * 1e6, 1),
        "opa": _opa(place),
    }
    if as_json:
        click.echo(json.dumps(shown))
        return
    other = "opa agrees" if shown["opa"] else "no opa on the PATH to ask as well"
    click.echo(
        f"{place}: fit for use, digest {found.digest}, {shown['decision_us']:g} µs for a decision "
        f"(median of {TIMED}, three domains); {other}"
    )


@policy.command("eval")
@click.argument("folder", metavar="[DIR]", required=False, type=DIR)
@click.option("--tenant", required=True, help="Whose stream it is.")
@click.option("--leader", required=True, help="The domain that would lead.")
@click.option("--weight", "weights", multiple=True, required=True, metavar="DOMAIN=WEIGHT")
@_json
def eval_(
    folder: Path | None, tenant: str, leader: str, weights: tuple[str, ...], as_json: bool
) -> None:
    """Ask DIR about one candidate: what a worker would make of the answer.

    The weights are those of the fresh domains. With SOMA_OPA_FAIL_OPEN an error lets the candidate
    lead, and the answer says so.

    \b
    Example:
      soma policy eval ops/policies --tenant t --leader a --weight a=.6 --weight b=.4
    """
    from agents.integrator import veto  # numba: when it is used

    shares = dict(map(_weight, weights))
    if leader not in shares:
        raise click.ClickException(f"{leader!r} has no weight: add --weight {leader}=…")
    found, _ = _load(folder)
    # Ctrl-C ends the process by itself: Python would only hear of it behind the decision.
    with handled(signal.SIG_DFL, *ENDING):
        decision = found.decide(tenant, leader, shares)
    told = veto.verdict(decision, leader, shares, open_=found.fail_open)
    outcome = veto.WORDS[told.veto]
    leads = "" if told.veto == veto.ALLOW else told.leader or ""
    if as_json:
        answer = {"outcome": outcome, "leader": leads, "rationale": told.rationale}
        click.echo(json.dumps(answer))
        return
    who = f": {leads} leads" if leads else ""
    click.echo(f"{outcome}{who}{f' ({told.rationale})' if told.rationale else ''}")


def _load(folder: Path | None) -> tuple[Any, Path]:
    from agents.policy.policies import load_policy  # regopy and the engine: when they are used

    settings = load()
    place = folder or settings.policy_dir
    if place is None:
        raise click.ClickException("No folder is given, and SOMA_POLICY_DIR names none.")
    try:
        return load_policy(place, settings.opa_fail_open), place
    except SettingsError as error:
        raise click.ClickException(str(error)) from error


def _weight(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not (name and equals and 0.0 <= value <= 1.0):
        raise click.ClickException(
            f"--weight {text[:60]!r}: give DOMAIN=WEIGHT, a weight of 0 to 1"
        )
    return name, value


def _opa(folder: Path) -> bool:
    """Whether an opa looked at the folder too; ClickException with what it found."""
    binary = shutil.which("opa")
    if binary is None:
        return False
    done = subprocess.run(
        [binary, "check", "--strict", os.fspath(folder)],
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    if done.returncode != 0:
        raise click.ClickException(f"opa check refuses {folder}:\n{done.stderr or done.stdout}")
    return True
