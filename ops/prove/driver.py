"""The driver: feeds a namespace, strikes workers and broker, waits, and calls the verifier.

    python -m ops.prove.driver --kills 20 --seed 7

Starts a stack of its own, unless `--bootstrap` names a broker (then only workers are struck).
Exit status 0 means that the verifier found nothing. Broker blows on a busy machine, ten times:

    python -m ops.prove.driver --script broker9,broker --rounds 4 --pause 0.2,4 --down 0.5,8 \
        --rate 1500 --busy 2 --runs 10
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from agents.settings import load
from ops.prove.blows import KINDS, Blows
from ops.prove.drain import Drain
from ops.prove.feed import Feed
from ops.prove.fleet import ROOT, Fleet
from ops.prove.publisher import Publisher, Waverer
from ops.prove.servers import Server, StackPart
from ops.prove.steering.feed import Steered
from ops.prove.steering.rewards import Opinions, Rewards
from ops.prove.verify import LAWS, ROW_LAWS
from ops.prove.wire import Wire
from ops.stack import Stack

PARTITIONS = 4
SESSION_TIMEOUT_S = 6.0
DRAIN_TIMEOUT_S = 180.0
VERB_S = 300.0  # a command of an operator
KILLED_S = 30.0  # a process that was killed: the kernel may be slow to let it go
VERIFY_S = 1800.0  # the verifier, which reads every topic
BUSY = "while True: pass"
PLAIN = tuple((law.processor, law.topic) for law in LAWS)
STAGES = (*PLAIN, *((law.processor, law.topic) for law in ROW_LAWS))
PROCESSORS = ",".join(name for name, _ in PLAIN)
STEERED = ",".join(name for name, _ in STAGES)


@dataclass
class Options:
    """What to do; times in seconds, `rate` in records a second."""

    kills: int
    seed: int
    rate: float = 3000.0
    events_min: int = 20_000
    workers: int = 2
    blows: tuple[str, ...] = KINDS
    pause: tuple[float, float] = (2.0, 9.0)  # between two blows
    down: tuple[float, float] = (0.0, 6.0)  # how long a stopped broker stays away
    script: tuple[str, ...] = ()  # these blows in this order, instead of `kills` random ones
    busy: int = 0  # processes beside it that do nothing but compute

    def sequence(self) -> list[str]:
        """The blows to deal."""
        chance = Random(self.seed)
        return list(self.script) or [chance.choice(self.blows) for _ in range(self.kills)]


@dataclass
class Report:
    """What was done and what the verifier said."""

    sent: int = 0
    seconds: float = 0.0
    blows: dict[str, int] = field(default_factory=dict)
    exits: list[str] = field(default_factory=list)
    behind: list[str] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Drained, and the verifier found nothing."""
        return not self.behind and bool(self.verdict.get("clean"))

    @property
    def stood(self) -> bool:
        """Clean, and no worker ended by itself: what a broker's blows alone must leave."""
        return self.clean and not self.exits


def worker_env(bootstrap: str, namespace: str, home: Path) -> dict[str, str]:
    """The environment of a worker under test: quick to notice a death."""
    return {
        "SOMA_KAFKA_BOOTSTRAP": bootstrap,
        "SOMA_NAMESPACE": namespace,
        "SOMA_HOME": str(home),
        "SOMA_TOPICS_PARTITIONS": str(PARTITIONS),
        "SOMA_TOPICS_REPLICATION": "1",
        "SOMA_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
        "SOMA_HEARTBEAT_S": "1",
        "SOMA_REBALANCE_TIMEOUT_S": "6",
        "SOMA_ENABLE_COG_THREADS": "1",
    }


def soma(env: dict[str, str], *words: str) -> None:
    """Run `soma …` to its end, as an operator would; RuntimeError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "agents.cli", *words],
        env=os.environ | env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=VERB_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(f"soma {' '.join(words)}: {done.stdout}{done.stderr}")


def run(options: Options, bootstrap: str, broker: Server | None, folder: Path) -> Report:
    """Feed, strike, drain, verify. Worker logs stay in `folder`."""
    started, wire, namespace = time.monotonic(), Wire(), f"prove-{options.seed}-{int(time.time())}"
    env = worker_env(bootstrap, namespace, folder)
    soma(env, "topics", "apply")
    fleet = Fleet(folder, env)
    fleet.enlist(options.workers, STEERED)
    report = Report()
    drain = Drain(bootstrap, namespace, STAGES, wire)
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(options.busy)]
    try:
        _strike(options, bootstrap, namespace, wire, fleet, broker, report, drain)
        drain.close()  # its client may have lost the broker meanwhile: publisher.py
        drain = Drain(bootstrap, namespace, STAGES, wire)
        if not drain.wait(DRAIN_TIMEOUT_S, fleet.tend):
            report.behind = drain.behind() or ["the positions never stood still"]
        report.exits = list(fleet.exits)
        report.exits += [f"crew ended with {code} at SIGTERM" for code in fleet.close() if code]
    finally:
        drain.close()
        fleet.close()
        for loop in loops:
            loop.kill()
            loop.wait(KILLED_S)
    report.verdict = call_verifier(bootstrap, namespace, drain.since_ms, steered=True)
    report.seconds = round(time.monotonic() - started, 1)
    return report


def _strike(
    options: Options, bootstrap: str, namespace: str, wire: Wire, fleet: Fleet,
    broker: Server | None, report: Report, drain: Drain,
) -> None:  # fmt: skip
    """Publish and, once the workers are at work, deal blows, until both have been enough."""
    chance = Random(options.seed)
    steered = Steered(Feed(options.seed, wire, PARTITIONS), options.seed, wire)
    opinions = Opinions(steered.learners, wire, options.seed, PARTITIONS)
    feed, rewards = iter(steered), Rewards(bootstrap, namespace, opinions)
    publisher = Publisher(bootstrap, namespace, feed, options.rate)
    left = options.sequence()
    calm = not any(kind.startswith("broker") for kind in left)
    waverer = Waverer(bootstrap, namespace, feed, options.seed) if calm else None
    blows = Blows(chance, fleet, broker, SESSION_TIMEOUT_S, options.down)
    due, began = 0.0, False
    while left or publisher.sent < options.events_min or fleet.frozen():
        publisher.step()
        steered.rewards.extend(rewards.step())
        fleet.tend()
        if waverer is not None and chance.random() < 0.05:
            waverer.step()
        if not began:
            began = drain.begun(len(PLAIN)) and fleet.at_work()
            due = time.monotonic() + options.pause[0]
        elif left and time.monotonic() >= due:
            blows.deal(left.pop(0))
            due = time.monotonic() + chance.uniform(*options.pause)
        time.sleep(0.02)
    rewards.close()
    publisher.finish()
    report.sent = publisher.sent + (waverer.committed if waverer else 0)
    report.blows = blows.dealt


def call_verifier(
    bootstrap: str, namespace: str, drained_ms: int = 0, *, steered: bool
) -> dict[str, Any]:
    """Run the verifier as a program of its own; its verdict, with `clean` false if it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "ops.prove.verify", "--bootstrap", bootstrap,
         "--namespace", namespace, "--json", "--drained", str(drained_ms),
         *([] if steered else ["--plain"])],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=VERIFY_S,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if not lines:
        return {"clean": False, "failure": done.stderr[-2000:]}
    verdict: dict[str, Any] = json.loads(lines[-1])
    return verdict | {"clean": verdict["clean"] and done.returncode == 0}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.prove.driver",
        description="Prove that nothing is lost, doubled, out of order or wrong under blows.",
        epilog="example: python -m ops.prove.driver --kills 20 --seed 7",
    )
    parser.add_argument("--kills", type=int, default=20, help="how many blows to deal")
    parser.add_argument("--seed", type=int, default=7, help="seed of the records and the blows")
    parser.add_argument("--rate", type=float, default=3000.0, help="records a second")
    parser.add_argument("--events-min", type=int, default=20_000, help="publish at least so many")
    parser.add_argument("--workers", type=int, default=2, help="workers beside the guests")
    parser.add_argument("--blows", default="", help=f"which, of {','.join(KINDS)}; default all")
    parser.add_argument("--script", default="", help="these blows in this order, not by chance")
    parser.add_argument("--rounds", type=int, default=1, help="how often to go through the script")
    parser.add_argument("--pause", type=_span, default=(2.0, 9.0), help="s between blows: MIN,MAX")
    parser.add_argument(
        "--down", type=_span, default=(0.0, 6.0), help="s of a broker away: MIN,MAX"
    )
    parser.add_argument("--busy", type=int, default=0, help="processes that keep the machine busy")
    parser.add_argument("--runs", type=int, default=1, help="how often, with the seeds that follow")
    parser.add_argument("--bootstrap", default="", help="use this broker, and never strike it")
    parser.add_argument("--logs", type=Path, help="keep the workers' logs in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    return parser.parse_args(arguments)


def _span(text: str) -> tuple[float, float]:
    least, _, most = text.partition(",")
    return float(least), float(most or least)


def prove(given: argparse.Namespace, seed: int, folder: Path) -> Report:
    """Run on the broker given, or on a stack of its own that goes afterwards."""
    kinds = tuple(given.blows.split(",")) if given.blows else KINDS
    if given.bootstrap and not given.blows:
        kinds = tuple(kind for kind in KINDS if not kind.startswith("broker"))
    script = tuple(given.script.split(",")) * given.rounds if given.script else ()
    options = Options(
        given.kills, seed, given.rate, given.events_min, given.workers, kinds,
        given.pause, given.down, script, given.busy,
    )  # fmt: skip
    if given.bootstrap:
        return run(options, given.bootstrap, None, folder)
    jars = load().home / "jars"
    stack = Stack(folder / "stack", ephemeral=True, cache=jars, without=("postgres", "valkey"))
    try:
        return run(options, stack.up().kafka_bootstrap, StackPart(stack), folder)
    finally:
        stack.down()


def near_ties(verdict: Mapping[str, Any]) -> str:
    """How often the verifier followed the log where rounding alone decides."""
    counts = verdict.get("counts", {})
    ties = {name.removesuffix("_near_ties"): n for name, n in counts.items() if "near_ties" in name}
    return f"near ties {sum(ties.values())} {ties}"


def main() -> int:
    """Prove, and print what came of each run."""
    given = parse()
    well = True
    with tempfile.TemporaryDirectory(prefix="soma-prove-") as scratch:
        for number in range(given.runs):
            folder = (given.logs or Path(scratch)) / (f"run-{number}" if given.runs > 1 else "")
            folder.mkdir(parents=True, exist_ok=True)
            report = prove(given, given.seed + number, folder)
            well = well and (report.stood if given.script else report.clean)
            tell(report, given.json)
    return 0 if well else 1


def tell(report: Report, json_only: bool) -> None:
    """Print a report: some lines for people, one of JSON."""
    verdict = report.verdict
    if not json_only:
        kinds = ("lost", "doubled", "out_of_order", "wrong")
        print(" ".join(f"{kind} {verdict.get(kind, '?')}" for kind in kinds))
        print(near_ties(verdict))
        print(f"sent {report.sent} in {report.seconds} s, blows {report.blows}")
    print(json.dumps(asdict(report) | {"clean": report.clean, "stood": report.stood}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
