"""The outbox's driver: writers write, relays and servers are struck, a verifier compares.

    python -m ops.prove.outbox --kills 20 --seed 7
    python -m ops.prove.outbox --soak 600

Starts Kafka and PostgreSQL of its own. Exit status 0 means: nothing lost, doubled, out of order or
wrong, the queue empty, and (soaking) tables and memory bounded.
"""

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from agents.settings import load
from ops.prove.blows import Blows
from ops.prove.driver import soma
from ops.prove.outbox_run import END_S, Options, Proof, Report
from ops.prove.outbox_soak import soak, table
from ops.prove.servers import StackPart
from ops.stack import Stack

KEEPER_SILENCE_S = 10.0  # a relay frozen for longer has lost its shards
HELD_S = 0.3  # between Kafka's commit and the DELETE
CATCH_S = 30.0  # so soon a relay is caught there
# After every third kill another kind, in turn.
OTHERS = ("between", "postgres9", "broker", "stop", "postgres", "kill-all", "broker9")
KINDS = ("kill", *OTHERS, "backup", "restore")
EVER = "1970-01-01"  # for `soma outbox reconcile`


@dataclass
class Strikes:
    """Which blows, how soon after each other, and how long a stopped server stays away (s)."""

    kills: int = 20
    pause: tuple[float, float] = (0.5, 5.0)
    down: tuple[float, float] = (0.0, 5.0)
    script: tuple[str, ...] = ()  # these in this order

    def sequence(self) -> list[str]:
        """The blows to deal: so many kills, and the other kinds between them."""
        if self.script:
            return list(self.script)
        found: list[str] = []
        for number in range(self.kills):
            found.append("kill")
            if number % 3 == 2:
                found.append(OTHERS[number // 3 % len(OTHERS)])
        return found


class OutboxBlows(Blows):
    """Blows at relays, broker and database."""

    def __init__(
        self, random: Random, proof: Proof, stack: Stack, down_s: tuple[float, float]
    ) -> None:
        super().__init__(random, proof.fleet, StackPart(stack), KEEPER_SILENCE_S, down_s)
        self._proof = proof
        database = StackPart(stack, "postgres")
        self._deal |= {
            "postgres": lambda: self._strike(database, hard=False),
            "postgres9": lambda: self._strike(database, hard=True),
            "kill-all": self._kill_all,
            "between": self._between,
            "backup": self._back_up,
            "restore": self._restore,
        }
        self._kept: dict[int, int] = {}  # batches by shard, as the backup has them

    def _back_up(self) -> None:
        self._proof.table.back_up()
        self._proof.until("the backup is made", self._note, CATCH_S)

    def _note(self) -> bool:
        self._kept = self._proof.table.batches()
        return bool(self._kept)

    def _all_sent(self) -> bool:
        """Whether each shard has sent since the backup: only such a one is out of step with a
        restored database, and stops for `reconcile`; the relay of another works on."""
        now = self._proof.table.batches()
        return bool(now) and all(now[shard] > count for shard, count in self._kept.items())

    def _restore(self) -> None:
        """The database as the backup has it, under writers and relays; then what operators do."""
        if not self._kept:
            raise ValueError("restore needs a backup before it")
        self._proof.until("each shard has sent since the backup", self._all_sent, CATCH_S)
        self._proof.table.restore()
        self._proof.restored = True
        soma(self._proof.env, "outbox", "reconcile", "--since", EVER, "--json")

    def _kill_all(self) -> None:
        for one in list(self.fleet.crew):
            self.fleet.kill(one)

    def _between(self) -> None:
        """All die between Kafka's commit and the DELETE: rarely met by chance, it takes 1 ms."""
        table = self._proof.table
        self._proof.until(
            "a relay is caught", lambda: table.between(self._kill_all, HELD_S) > 0, CATCH_S
        )


def kill(options: Options, strikes: Strikes, stack: Stack, folder: Path) -> Report:
    """The contention proof."""
    proof = Proof(options, stack, folder)
    chance = Random(options.seed)
    blows = OutboxBlows(chance, proof, stack, strikes.down)

    def body() -> None:
        for kind in strikes.sequence():
            proof.tend(chance.uniform(*strikes.pause))
            blows.deal(kind)
        proof.tend(strikes.pause[1])
        proof.until("nobody is frozen", lambda: not proof.fleet.frozen(), END_S)

    report = proof.run(body)
    report.blows = blows.dealt
    return report


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m ops.prove.outbox",
        description="Prove that the outbox loses, doubles and reorders nothing under blows.",
        epilog="example: python -m ops.prove.outbox --kills 20 --seed 7",
    )
    parser.add_argument("--kills", type=int, default=20, help="how many relays to kill -9")
    parser.add_argument("--seed", type=int, default=7, help="seed of the writers and the blows")
    parser.add_argument("--script", default="", help=f"instead: these, of {','.join(KINDS)}; a "
                        "restore takes the database back to the backup before it")  # fmt: skip
    parser.add_argument("--soak", type=float, default=0.0, help="instead: write for so many s")
    parser.add_argument("--logs", type=Path, help="keep the logs in this folder")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    return parser.parse_args(arguments)


def prove(given: argparse.Namespace, folder: Path, home: Path) -> Report:
    """Run on a stack of its own in `home`, which goes afterwards; logs go to `folder`."""
    cache = load().home / "jars"
    stack = Stack(home, ephemeral=True, cache=cache, without=("valkey",))
    try:
        if given.soak:
            return soak(given.soak, given.seed, stack, folder)
        script = tuple(given.script.split(",")) if given.script else ()
        return kill(Options(given.seed), Strikes(given.kills, script=script), stack, folder)
    finally:
        stack.down()


def main() -> int:
    """Prove, and print what came of it."""
    given = parse()
    # Ended like any other program that has something to put away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="soma-outbox-") as scratch:
        folder = given.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        report = prove(given, folder, Path(scratch) / "stack")
    if not given.json:
        for line in [*(table(report.samples) if report.samples else []), *report.lines()]:
            print(line)
    print(json.dumps(asdict(report) | {"clean": report.clean}))
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
