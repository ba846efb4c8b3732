"""Apache Kafka in KRaft mode: one node that is broker and controller, on the loopback interface."""

import base64
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import psutil
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from ops.stack import ports as net
from ops.stack.files import write_whole
from ops.stack.jars import jars, java
from ops.stack.processes import StackError, environment, spawn
from ops.stack.server import Say, StackServer

FORMAT_S = 60.0
QUICK = "-XX:TieredStopAtLevel=1"  # Java compiles in haste: a start takes 5 s of CPU instead of 9
NO_ANSWER = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN)
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{kafka}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
# Relative to where the broker runs: Kafka reads this file as Latin-1, and splits at commas.
log.dirs=data
auto.create.topics.enable=false
num.partitions=4
default.replication.factor=1
min.insync.replicas=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Workers start at once, and tests see a lost one and a compaction within seconds.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
log.cleaner.backoff.ms=1000
# After a kill the node waits for its own old session to end before it serves again.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class Kafka(StackServer):
    """The broker. Its jars come from `cache`, fetched by Maven when they aren't there."""

    name = "kafka"
    title = "Kafka"
    port_names = ("kafka", "controller")
    end_signal = signal.SIGKILL  # it takes seconds to say goodbye
    start_s = 120.0

    def __init__(self, home: Path, ephemeral: bool, say: Say, cache: Path) -> None:
        super().__init__(home, ephemeral, say)
        self.cache = cache
        self.folder = home / "kafka"
        self.properties = self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """What the broker logs (what Java itself says is in kafka.log beside it)."""
        return self.home / "logs" / "kafka-server.log"

    @property
    def marker(self) -> tuple[str, ...]:
        return ("kafka.Kafka", f"-Dsoma.properties={self.properties}")

    def prepare(self, ports: Mapping[str, int]) -> None:
        path, libs = java(), jars(self.cache, self.say)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.properties, PROPERTIES.format(**ports))
        formatted = self.folder / "formatted"
        if formatted.exists():
            return
        # A format that was interrupted is done again; nothing has been written yet.
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        quick = [path, "-XX:+UseSerialGC", QUICK]  # it runs for a second
        tool = [*quick, "-cp", f"{libs}/*", "kafka.tools.StorageTool", "format", "--standalone"]
        done = subprocess.run(
            [*tool, "-t", _cluster_id(), "-c", self.properties.name],
            capture_output=True,
            cwd=self.folder,
            env=environment(),
            text=True,
            timeout=FORMAT_S,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"Kafka's storage can't be formatted: {done.stdout}{done.stderr}")
        formatted.touch()

    def launch(self, ports: Mapping[str, int]) -> psutil.Process:
        logs = self.home / "logs"
        logging = logs / "kafka-log4j2.xml"
        logs.mkdir(parents=True, exist_ok=True)
        write_whole(logging, files("ops.kafka").joinpath("log4j2.xml").read_text())
        flags = ["-Xmx512m", "-Xms256m", "-XX:+UseSerialGC", "-Djava.awt.headless=true"]
        if self.ephemeral:  # lives for minutes: compiling well would cost more than it brings
            flags.append(QUICK)
        # The last word is for `marker` alone. Java mangles names of files that aren't ASCII.
        defines = [
            f"-Dkafka.logs.dir=../{logs.name}",
            f"-Dlog4j2.configurationFile=../{logs.name}/{logging.name}",
            f"-Dsoma.properties={self.properties}",
        ]
        path = ["-cp", f"{jars(self.cache, self.say)}/*"]
        argv = [java(), *flags, *defines, *path, "kafka.Kafka", self.properties.name]
        return spawn(argv, logs / "kafka.log", self.folder)

    def ready(self, ports: Mapping[str, int]) -> bool:
        if not net.answers(ports["kafka"]):
            return False
        client = AdminClient({"bootstrap.servers": self.address(ports), "log_level": 0})
        try:
            return len(client.list_topics(timeout=5.0).brokers) > 0
        except KafkaException as error:
            if error.args[0].code() in NO_ANSWER:
                return False
            raise StackError(f"Kafka runs, and can't be asked: {error}") from error

    def address(self, ports: Mapping[str, int]) -> str:
        return f"{net.HOST}:{ports['kafka']}"

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _cluster_id() -> str:
    """22 characters of URL-safe base64; Kafka's tool takes a leading dash for an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]).startswith("-"):
        pass
    return text
