"""Golden runs: what each processor sends and keeps, recorded before its code is changed.

`python -m tests.contract.golden --record` writes golden.json; test_golden.py compares. A change of
a law (`Processor.law`), of a schema or of the inputs is recorded anew; any other difference is one
that users would see, or that a restart over old state would meet.

Each topic has digests of its records twice. `bytes`: as they are. `rounded`: decoded, with numbers
to 9 digits. Bytes are compared where the C library gives the same last bits as where they were
recorded (`numerics`): glibc has an exp for CPUs with FMA and one for those without, and versions
differ in expm1 and lgamma. Kernels themselves don't depend on the CPU: they are compiled without
fastmath, LLVM contracts nothing to FMA by itself, and reorders no sum.
"""

import argparse
import base64
import ctypes
import ctypes.util
import hashlib
import itertools
import json
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agents.engine.batches import raw_batch
from agents.engine.digest import digest
from agents.engine.plan import Plan
from agents.engine.registry import processors
from agents.predictors.diffusion import coefficients_of
from tests.contract.golden_inputs import SCENARIOS, Judge, Phase, Scenario, answered, written
from tests.contract.harness import Message, Run, Sent, batch_of, loaded, plan_of
from topics import codec

FILE = Path(__file__).with_name("golden.json")
DIGITS = 9  # of numbers, in `rounded`; what is smaller than 1e-9 counts as 0
BLOCK, MARK = 16, 4  # records to a mark, and its hex digits
SHOWN, KEPT = 600, 300  # characters of a record: shown, recorded
CRC_AT, COUNT_AT = 17, 57  # in a record batch's header, of 4 bytes each
VECTORS = {  # bytes that a law computed, and are numbers
    ("predictors_state", "level"): "d",
    ("predictors_state", "step"): "d",
    ("predictors_state", "ratio"): "d",
    ("segmentation_state", "runs"): "d",
    ("next_event", "predicted_state"): "f",
}
CANONICAL = 100  # records to a transaction, in the run that is recorded

DETAIL = "soma-detail"
PLAIN = ("law", "input", "results", "counted", "dead")  # compared and shown as they are

Found = dict[str, Any]


@cache
def numerics() -> str:
    """A digest of what the C library's functions give here, to the last bit."""
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    total = hashlib.sha256()
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "lgamma", "pow", "hypot"):
        function = getattr(library, name)
        function.restype = ctypes.c_double
        two = name in ("pow", "hypot")
        function.argtypes = [ctypes.c_double] * (1 + two)
        for k in range(1, 3000):
            x = k * k / 70_001.0
            total.update(struct.pack("<d", function(x, k / 701.0) if two else function(x)))
            if name in ("exp", "expm1"):
                total.update(struct.pack("<d", function(-x)))
    for time in (0.5, 1.25, 1.5, 10.0):
        total.update(coefficients_of(time, 4.0).tobytes())
    return total.hexdigest()[:16]


def rounded(value: Any, code: str = "") -> Any:
    """A decoded value, with its numbers to `DIGITS` digits, as JSON can have it."""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if not abs(value) < 1e-9 else "0"
    if isinstance(value, bytes):
        if not code:
            return value.hex()
        return [
            rounded(x)
            for x in struct.unpack(f"<{len(value) // struct.calcsize(code)}{code}", value)
        ]
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    return [rounded(one) for one in value] if isinstance(value, list) else value


def readable(sent: Sent, plan: Plan) -> str:
    """A record that was sent, for people and for `rounded`; what came from users stays bytes."""
    value: Any = sent.value.hex() if sent.value is not None else None
    if sent.value is not None and sent.topic not in (plan.dlq, plan.source):
        name, record = codec.decode(sent.value)
        value = {f: rounded(one, VECTORS.get((name, f), "")) for f, one in record.items()}
    key = sent.key.decode("utf-8", "replace") if sent.key is not None else None
    told = [(n, text.decode() if text is not None else None) for n, text in _headers(sent)]
    return json.dumps([sent.partition, key, value, told], ensure_ascii=False)


def _headers(sent: Sent) -> list[tuple[str, bytes | None]]:
    """All but the text that says in words why a letter is dead: see `Golden.words`."""
    return [header for header in sent.headers if header[0] != DETAIL]


def raw(sent: Sent) -> bytes:
    """A record that was sent."""
    return repr((sent.topic, sent.partition, sent.key, sent.value, _headers(sent))).encode()


def _digests(lines: list[bytes]) -> tuple[str, str]:
    """Of all, 32 hex digits; and a mark of every BLOCK of them, end to end."""
    parts = [lines[lo : lo + BLOCK] for lo in range(0, len(lines), BLOCK)]
    marks = [hashlib.sha256(b"\n".join(part)).hexdigest()[:MARK] for part in parts]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:32], "".join(marks)


@dataclass
class Golden:
    """A scenario, ready to run."""

    scenario: Scenario
    plan: Plan
    phases: list[Phase]

    def __init__(self, name: str) -> None:
        self.scenario = SCENARIOS[name]
        processor = processors()[self.scenario.processor]
        policy = self.scenario.policy
        self.plan = plan_of(replace(processor, policy=lambda _: policy))
        self.phases = written(self.plan, self.scenario)
        if isinstance(policy, Judge) and policy.remote:
            self.phases = answered(self.plan, self.phases, policy)

    def _lie(self, run: Run) -> None:
        """A record batch that says it has more records than it has."""
        last = self.phases[-1]
        batch = batch_of([Message(run.next, b"t0", b"value")], last.log_ms)
        data = bytearray(batch.data)
        data[COUNT_AT : COUNT_AT + 4] = (2).to_bytes(4, "big")
        data[CRC_AT : CRC_AT + 4] = bytes(4)  # it was of the time when the test ran
        run.transaction([raw_batch(bytes(data))])

    def run(self, *sizes: int) -> tuple[Run, list[str]]:
        """The log in transactions of so many records, in turn; and a digest after each phase."""
        run, digests, turn = Run(self.plan), [], itertools.cycle(sizes)
        for phase in self.phases:
            for part in _cut(phase.messages, turn):
                run.feed([part], phase.log_ms)
            digests.append(digest(self.plan, run.fold))
        self._lie(run)
        return run, digests

    def restarted(self) -> tuple[Run, list[str]]:
        """The same with a restart before each phase but the first: another fold, from the rows."""
        whole, digests = Run(self.plan), []
        for k, phase in enumerate(self.phases):
            if k:
                fold = loaded(self.plan, whole.rows(), np.random.default_rng(k)).fold
                whole.restart(fold)
            whole.feed([phase.messages], phase.log_ms)
            digests.append(digest(self.plan, whole.fold))
        self._lie(whole)
        return whole, digests

    def topics(self) -> list[str]:
        """All that is written to."""
        plan = self.plan
        return [*(sink.topic for sink in plan.sinks), plan.dlq, plan.source, plan.state]

    def reasons(self, run: Run) -> dict[str, int]:
        """How many dead letters of a run say what."""
        said = [dict(sent.headers)["soma-reason"] or b"" for sent in run.of(self.plan.dlq)]
        return dict(Counter(reason.decode() for reason in said))

    def words(self, run: Run) -> list[str]:
        """What the dead letters of a run say of their records: texts, which may be mended."""
        letters = [dict(sent.headers)[DETAIL] or b"" for sent in run.of(self.plan.dlq)]
        return sorted({text.decode() for text in letters})

    def found(self) -> tuple[Found, Run]:
        """What is recorded of this scenario, and the run that it is of."""
        run, digests = self.run(CANONICAL)
        topics = {}
        for topic in self.topics():
            sent = run.of(topic)
            lines = [readable(one, self.plan) for one in sent]
            exact, exact_marks = _digests([raw(one) for one in sent])
            near, near_marks = _digests([line.encode() for line in lines])
            topics[topic] = {
                "records": len(sent), "bytes": exact, "rounded": near, "marks": exact_marks,
                "rounded_marks": near_marks, "first": lines[0][:KEPT] if lines else "",
            }  # fmt: skip
        log = [repr((p.log_ms, m.offset, m.key, m.value, m.headers)).encode()
               for p in self.phases for m in p.messages]  # fmt: skip
        return {
            "law": self.plan.processor.law, "input": _digests(log)[0], "results": run.results,
            "counted": run.counted, "dead": self.reasons(run), "words": self.words(run),
            "digests": digests, "topics": topics,
        }, run  # fmt: skip


def _cut(messages: list[Message], sizes: Iterator[int]) -> Iterator[list[Message]]:
    lo = 0
    while lo < len(messages):
        hi = lo + next(sizes)
        yield messages[lo:hi]
        lo = hi


def differences(golden: Golden, recorded: Found, *, exact: bool) -> list[str]:
    """What isn't as it was recorded, a line each. `exact`: to the last bit."""
    name = f"{golden.scenario.processor}: {golden.scenario.name}"
    was, words = recorded["scenarios"][name], recorded["words"][golden.scenario.processor]
    now, run = golden.found()
    said = [f"{name}: {now[name]}, was {was[name]}" for name in PLAIN if now[name] != was[name]]
    said += [f"words of a dead letter: {one!r}" for one in now["words"] if one not in words]
    if exact and now["digests"] != was["digests"]:
        said.append(f"digests of the state: {now['digests']}, were {was['digests']}")
    for topic in sorted({*now["topics"], *was["topics"]}):
        new, old = now["topics"].get(topic), was["topics"].get(topic)
        if new is None or old is None:
            said.append(f"{topic}: {'not written to' if new is None else 'was not written to'}")
        elif new["rounded"] != old["rounded"]:
            said.append(f"{topic}: {_first(run, topic, new, old, 'rounded_marks')}")
        elif exact and new["bytes"] != old["bytes"]:
            where = _first(run, topic, new, old, "marks")
            said.append(f"{topic}: the same to {DIGITS} digits, not to the last bit: {where}")
    return said


def _first(run: Run, topic: str, new: Found, old: Found, marks: str) -> str:
    """Where a topic's records begin to differ."""
    pairs = [
        [one[marks][k : k + MARK] for one in (new, old)] for k in range(0, len(new[marks]), MARK)
    ]
    block = next((k for k, (mine, theirs) in enumerate(pairs) if mine != theirs), len(pairs))
    lo, sent = block * BLOCK, run.of(topic)
    text = f"{new['records']} records, were {old['records']}; the first difference is among "
    text += f"records {lo} to {lo + BLOCK - 1}"
    if lo < len(sent):
        text += f"; record {lo} is now {readable(sent[lo], run.plan)[:SHOWN]}"
    return text + (f"; record 0 was {old['first']}" if lo == 0 else "")


def _rows(name: str) -> Found:
    """What the state of a scenario is at its end, for later versions to load."""
    run, digests = Golden(name).run(CANONICAL)
    text = {key.decode(): base64.b64encode(row).decode() for key, row in run.rows().items()}
    return {"digest": digests[-1], "rows": dict(sorted(text.items()))}


def main() -> None:
    """Record, or print what a scenario sends, to compare two checkouts by `diff`."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract.golden")
    parser.add_argument("--record", action="store_true", help=f"write {FILE.name} anew")
    parser.add_argument(
        "--print",
        metavar="SCENARIO",
        choices=SCENARIOS,
        help="print all that a scenario sends, a record a line",
    )
    asked = parser.parse_args()
    if asked.print:
        golden = Golden(asked.print)
        run, _ = golden.run(CANONICAL)
        for topic in golden.topics():
            for k, sent in enumerate(run.of(topic)):
                sys.stdout.write(f"{topic} {k} {readable(sent, golden.plan)}\n")
    elif asked.record:
        scenarios = {name: Golden(name).found()[0] for name in SCENARIOS}
        words: dict[str, set[str]] = {
            name: set() for name, one in processors().items() if one.in_loop
        }
        for name, scenario in scenarios.items():
            words[SCENARIOS[name].processor] |= set(scenario.pop("words"))
        told = {name: sorted(texts) for name, texts in words.items()}
        rows = {name: _rows(f"{name}: changes") for name in words}
        content = {"numerics": numerics(), "words": told, "rows": rows, "scenarios": scenarios}
        FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    else:
        parser.error("--record or --print SCENARIO")


if __name__ == "__main__":
    main()
