"""What a broker keeps back, one thing after the other: each time the partition commits again.

    python -m ops.prove.answers --minutes 2

A worker with the default deadlines works behind a proxy (`ops.prove.proxy`), which swallows
answers, is late with them, or says for minutes that the coordinator is busy. Starts a Kafka of its
own. Exit status 0: every partition was folded to its end within the time that each case has, and
the verifier found nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agents.settings import load
from ops.prove import proxy
from ops.prove.drain import Drain
from ops.prove.driver import PARTITIONS, PLAIN, PROCESSORS, call_verifier, soma, worker_env
from ops.prove.feed import Feed
from ops.prove.fleet import Fleet
from ops.prove.proxy import Proxy, Rule
from ops.prove.publisher import Publisher
from ops.prove.wire import Wire
from ops.stack import Stack

ONE, CONSUMER, ALWAYS = "integrator-1", "faust", 10**9
# The defaults: an answer has 15 s, a transaction 30; and the way back, twice if need be.
BACK_S = 90.0
START_S = 180.0
SWALLOWED = (
    (proxy.ADD_PARTITIONS, ONE), (proxy.PRODUCE, ONE), (proxy.END_TXN, ONE),
    (proxy.INIT_PRODUCER_ID, ONE), (proxy.FETCH, CONSUMER), (proxy.METADATA, CONSUMER),
    (proxy.OFFSET_FETCH, CONSUMER),
)  # fmt: skip
BUSY = (proxy.CONCURRENT_TRANSACTIONS, proxy.COORDINATOR_LOAD_IN_PROGRESS)


@dataclass
class Case:
    """One thing that the broker does, and how long everything took to be folded after it."""

    name: str
    rules: list[Rule]
    lasts_s: float
    back_s: float = -1.0  # never

    def told(self) -> dict[str, Any]:
        """As a report has it."""
        return {"case": self.name, "back_s": self.back_s, "hits": self.rules[0].hits}


@dataclass
class Report:
    """What came of it."""

    cases: list[dict[str, Any]] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    verdict: dict[str, Any] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Always back in time, hit at least once, no worker lost, nothing wrong."""
        back = all(0.0 <= case["back_s"] <= BACK_S and case["hits"] for case in self.cases)
        return back and not self.exits and bool(self.verdict.get("clean"))


def cases(minutes: float) -> list[Case]:
    """All of them, in order."""
    found = []
    for api, client in SWALLOWED:
        rules = [Rule(api, client)]
        if api == proxy.INIT_PRODUCER_ID:  # asked by the next producer, so the last one has to fail
            rules.append(Rule(proxy.END_TXN, client, ALWAYS, error=BUSY[0]))
        if api == proxy.OFFSET_FETCH:
            error = proxy.REBALANCE_IN_PROGRESS
            rules.append(Rule(proxy.HEARTBEAT, client, error=error))
        lasts = 35.0 if api == proxy.INIT_PRODUCER_ID else 12.0
        found.append(Case(f"{proxy.NAMES[api]} swallowed", rules, lasts))
    for api in (proxy.PRODUCE, proxy.END_TXN):
        rules = [Rule(api, ONE, late_s=20.0)]
        found.append(Case(f"{proxy.NAMES[api]} 20 s late", rules, 5.0))
    for api in (proxy.ADD_PARTITIONS, proxy.END_TXN, proxy.INIT_PRODUCER_ID):
        for error in BUSY:
            rules = [Rule(api, ONE, ALWAYS, error=error)]
            if api == proxy.INIT_PRODUCER_ID:
                rules.append(Rule(proxy.END_TXN, ONE, ALWAYS, error=error))
            name = f"{proxy.NAMES[api]} answers {error} for {minutes:g} min"
            found.append(Case(name, rules, 60.0 * minutes))
    return found


def run(given: argparse.Namespace, bootstrap: str, folder: Path) -> Report:
    """Every case in turn, under a steady feed."""
    wire, namespace = Wire(), f"answers-{int(time.time())}"
    report = Report()
    with Proxy(bootstrap) as between:
        soma(worker_env(bootstrap, namespace, folder), "topics", "apply")
        fleet = Fleet(folder, worker_env(between.address, namespace, folder))
        drain = Drain(bootstrap, namespace, PLAIN, wire)
        feed = iter(Feed(given.seed, wire, PARTITIONS))
        publisher = Publisher(bootstrap, namespace, feed, given.rate)
        fleet.enlist(1, PROCESSORS)
        try:
            _await_work(publisher, drain)
            for case in cases(given.minutes):
                _meet(case, between, publisher, drain)
                report.cases.append(case.told())
                if not given.json:
                    print(f"{case.name}: back after {case.back_s:.1f} s", flush=True)
            fleet.tend()
            report.exits = [*fleet.exits, *(f"status {code}" for code in fleet.close() if code)]
        finally:
            drain.close()
            fleet.close()
    report.verdict = call_verifier(bootstrap, namespace, steered=False)
    return report


def _await_work(publisher: Publisher, drain: Drain) -> None:
    """Until the worker has committed something; RuntimeError if it doesn't."""
    until = time.monotonic() + START_S
    while not drain.begun(len(PLAIN)):
        if time.monotonic() > until:
            raise RuntimeError(f"the worker has committed nothing in {START_S:g} s")
        _publish(publisher, 0.5)


def _meet(case: Case, between: Proxy, publisher: Publisher, drain: Drain) -> None:
    for rule in case.rules:
        between.rule(rule)
    _publish(publisher, case.lasts_s)
    between.free()
    publisher.finish()
    began = time.monotonic()
    if drain.wait(BACK_S, lambda: None):
        case.back_s = round(time.monotonic() - began, 1)


def _publish(publisher: Publisher, seconds: float) -> None:
    publisher.started = time.monotonic() - publisher.sent / publisher.rate  # a pause isn't made up
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        publisher.step()
        time.sleep(0.02)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.prove.answers",
        description="Prove that no partition stands still, whatever the broker keeps back.",
        epilog="example: python -m ops.prove.answers --minutes 2",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="how long a coordinator is busy")
    parser.add_argument("--rate", type=float, default=200.0, help="records a second")
    parser.add_argument("--seed", type=int, default=7, help="seed of the records")
    parser.add_argument("--logs", type=Path, help="keep the worker's log in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    return parser.parse_args(arguments)


def main() -> int:
    """Prove, and print what came of it."""
    given = parse()
    with tempfile.TemporaryDirectory(prefix="soma-answers-") as scratch:
        folder = given.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        without, jars = ("postgres", "valkey"), load().home / "jars"
        stack = Stack(Path(scratch) / "stack", ephemeral=True, cache=jars, without=without)
        try:
            report = run(given, stack.up().kafka_bootstrap, folder)
        finally:
            stack.down()
    print(json.dumps(asdict(report) | {"clean": report.clean}))
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
