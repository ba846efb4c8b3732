"""The verifier: reads a namespace, folds everything anew, and says what is wrong.

    python -m ops.prove.verify --bootstrap HOST:PORT --namespace NS

Prints one JSON object as its last line; exit status 1 if anything was lost, doubled, out of order
or wrong. Workers must have drained their sources before (the driver sees to that); `--drained` says
when, for timers may have written more since.
"""

import argparse
import json
import sys
from functools import cache

from ops.prove.check import Findings, Stage, check_stage
from ops.prove.fuse import Fusion
from ops.prove.law import Law
from ops.prove.predict import Prediction
from ops.prove.reader import identities, physical, read_all
from ops.prove.rowcheck import RowStage, check_rows
from ops.prove.rowlaw import RowLaw
from ops.prove.segment import Segmentation
from ops.prove.steering.canary import Canaries
from ops.prove.steering.control import Control
from ops.prove.steering.learning import Feedback, Learner, Lessons
from ops.prove.steering.sleep import Sleeping
from ops.prove.wire import Record, Wire

LAWS: tuple[type[Law], ...] = (Prediction, Fusion, Segmentation)
ROW_LAWS: tuple[type[RowLaw], ...] = (Control, Sleeping, Lessons, Feedback, Learner, Canaries)


class Namespace:
    """A namespace's topics, each read once."""

    def __init__(self, bootstrap: str, namespace: str, drained_ms: int) -> None:
        self.bootstrap, self.namespace, self.drained_ms = bootstrap, namespace, drained_ms
        self.read = cache(self._read)

    def _read(self, topic: str) -> list[Record]:
        return list(read_all(self.bootstrap, physical(self.namespace, topic)))

    def stage(self, law: type[Law]) -> Stage:
        """Everything that belongs to one processor."""
        name = physical(self.namespace, law.topic)
        identity = identities(self.bootstrap, [name])[name]
        return Stage(
            law, identity.id, identity.partitions, self.read(law.topic),
            {sink.topic: self.read(sink.topic) for sink in law.sinks},
            self.read(f"{law.topic}.dlq"), self.read(f"soma.{law.processor}.state"),
            self.read("soma.epochs"), self.drained_ms,
        )  # fmt: skip

    def row_stage(self, law: type[RowLaw]) -> RowStage:
        """The same of a row processor."""
        name = physical(self.namespace, law.topic)
        identity = identities(self.bootstrap, [name])[name]
        return RowStage(
            law, identity.id, identity.partitions, self.read(law.topic),
            {topic: self.read(topic) for topic in law.sinks},
            self.read(f"{law.topic}.dlq"), self.read(f"soma.{law.processor}.state"),
            self.read("soma.epochs"), self.drained_ms,
        )  # fmt: skip


def verify(bootstrap: str, namespace: str, drained_ms: int = 0, *, steered: bool) -> Findings:
    """Check every processor; `steered`: those that steer ran, too."""
    wire, findings, own = Wire(), Findings(), Namespace(bootstrap, namespace, drained_ms)
    for law in LAWS:
        findings.add(check_stage(own.stage(law), wire))
    for row_law in ROW_LAWS if steered else ():
        findings.add(check_rows(own.row_stage(row_law), wire))
    return findings


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.prove.verify", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="the broker, host:port")
    parser.add_argument("--namespace", default="", help="SOMA_NAMESPACE of the workers")
    parser.add_argument("--drained", type=int, default=0, help="when all was folded, ms since 1970")
    parser.add_argument("--plain", action="store_true", help="only the three that see each record")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    findings = verify(
        options.bootstrap, options.namespace, options.drained, steered=not options.plain
    )
    if not options.json:
        print(findings.line())
    print(json.dumps(findings.as_json()))
    return 0 if findings.clean else 1


if __name__ == "__main__":
    sys.exit(main())
