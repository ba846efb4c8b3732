"""The verifier: reads the topics of a namespace, folds by itself, says what is wrong.

    python -m ops.prove.verify --bootstrap 127.0.0.1:9092 --namespace prove-7

Exit status 0 means: nothing lost, doubled, out of order or wrong from observations to boundaries.
"""

import argparse
import json
import sys

from ops.prove.check import Findings, Stage, check_stage
from ops.prove.fuse import Fusion
from ops.prove.law import Law
from ops.prove.predict import Prediction
from ops.prove.reader import identities, physical, read_all
from ops.prove.segment import Segmentation
from ops.prove.wire import Record, Wire

LAWS: tuple[type[Law], ...] = (Prediction, Fusion, Segmentation)


def load_stage(bootstrap: str, namespace: str, law: type[Law]) -> Stage:
    """Read everything that belongs to one processor."""

    def full(topic: str) -> str:
        return physical(namespace, topic)

    def read(topic: str) -> list[Record]:
        return list(read_all(bootstrap, full(topic)))

    records = read(law.topic)
    identity = identities(bootstrap, [full(law.topic)])[full(law.topic)]
    return Stage(
        law=law, topic_id=identity.id, partitions=identity.partitions,
        source=records, outputs={sink.topic: read(sink.topic) for sink in law.sinks},
        dead=read(f"{law.topic}.dlq"), state=read(f"soma.{law.processor}.state"),
        epochs=read("soma.epochs"),
    )  # fmt: skip


def verify(bootstrap: str, namespace: str) -> Findings:
    """Check every processor."""
    wire, findings = Wire(), Findings()
    for law in LAWS:
        findings.add(check_stage(load_stage(bootstrap, namespace, law), wire))
    return findings


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.prove.verify", description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="the broker, host:port")
    parser.add_argument("--namespace", default="", help="SOMA_NAMESPACE of the workers")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    findings = verify(options.bootstrap, options.namespace)
    if not options.json:
        print(findings.line())
    print(json.dumps(findings.as_json()))
    return 0 if findings.clean else 1


if __name__ == "__main__":
    sys.exit(main())
