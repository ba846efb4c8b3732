"""Kafka Streams, exactly_once_v2, in-memory store: builds ops/bench/kafka_streams and runs it."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from ops.bench.job import Job
from ops.bench.wire import AVRO
from ops.bench.works import ROWS
from ops.examples import PLUGIN

SOURCES = Path(__file__).resolve().parents[1] / "kafka_streams"
BUILD = ("mvn", "-q", "-B", "package", "dependency:copy-dependencies")
BUILD_S = 1800.0  # what it is made of is fetched meanwhile
HEAP = "-Xmx1g"


class BuildError(Exception):
    """Maven could not build the program; the text is what it said."""


def absent() -> str | None:
    """Why this peer can't run here; None if it can."""
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"{' and '.join(missing)} not found: install a JDK 17 and Maven" if missing else None


def build(cache: Path) -> Path:
    """Build the program once per version of its sources; returns its folder under `cache`."""
    files = sorted(f for f in SOURCES.rglob("*") if f.is_file() and "target" not in f.parts)
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]
    place = cache / f"kafka_streams-{digest}"
    if (place / "built").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(SOURCES, place, ignore=shutil.ignore_patterns("target"))
    done = subprocess.run(
        BUILD, cwd=place, capture_output=True, text=True, check=False, timeout=BUILD_S
    )
    if done.returncode:
        raise BuildError(f"{' '.join(BUILD)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    (place / "built").touch()
    return place


def command(job: Job, place: Path, threads: int) -> list[str]:
    """The command line of the built program."""
    main, avro, out = ("Job", AVRO, "global_frame.v1")
    if job.work == ROWS:
        main, avro, out = ("RowsJob", PLUGIN.schemas or AVRO, "observation_count.v1")
    ids = json.loads((avro / "ids.json").read_text())
    out_id = next(number for number, stem in ids.items() if stem == out)
    folders = f"{AVRO}:{avro}"
    classes = f"{place / 'target/classes'}:{place / 'target/dependency'}/*"
    program = ["java", HEAP, f"-Djava.io.tmpdir={job.folder}", "-cp", classes, f"soma.bench.{main}"]
    arguments = [job.bootstrap, job.run, job.source, job.sink, job.id_prefix, job.events]
    return [*program, *map(str, arguments), str(threads), folders, out_id]
