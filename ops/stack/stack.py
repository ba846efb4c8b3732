"""The local stack: its parts, what is noted of them in `home/stack.json`, and its life.

`up` makes true that every part answers, whatever state it finds: nothing, all of it, a part that
was killed, a part that another `up` started and left. It holds a lock, so two at once don't both
start.
"""

import json
import os
import shutil
import signal
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ops.stack import ports as net
from ops.stack.files import locked, read_json, tail, write_whole
from ops.stack.kafka import Kafka
from ops.stack.postgres import Postgres
from ops.stack.processes import StackError, alive, find, stop, wait_until
from ops.stack.server import Say, StackServer
from ops.stack.valkey import Valkey

STARTS_MAX = 3  # a port can be taken, an old server's last child linger: then once more


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What clients need to connect; empty text for a part that isn't the stack's to run."""

    kafka_bootstrap: str = ""
    postgres_dsn: str = field(default="", repr=False)
    redis_url: str = ""
    pids: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One part: whether its process runs, and whether it answers."""

    name: str
    running: bool
    ready: bool
    pid: int | None
    port: int | None
    log: str


class Stack:
    """A stack in `home`. `cache` holds Kafka's jars (default `home/jars`).

    `without` names parts that aren't started ("kafka", "postgres", "valkey"): the user has his own.
    An ephemeral stack's data is removed on `down` and isn't forced to disk, and Java compiles in
    haste: for tests and proofs, not for figures.
    """

    def __init__(
        self,
        home: Path,
        ephemeral: bool = False,
        cache: Path | None = None,
        without: Collection[str] = (),
        say: Say = lambda _: None,
    ) -> None:
        self.home = home.absolute()
        self.say = say
        self.note = self.home / "stack.json"
        self.ephemeral = bool(read_json(self.note).get("ephemeral", ephemeral))
        self._wants_ephemeral = ephemeral
        self._without = frozenset(without)
        shared = (self.home, self.ephemeral, say)
        every: list[StackServer] = [
            Kafka(*shared, cache=cache or self.home / "jars"),
            Postgres(*shared),
            Valkey(*shared),
        ]
        self.parts = {part.name: part for part in every}

    def up(self) -> Endpoints:
        """Start what doesn't run, repair what died, await until all answer."""
        self._writable()
        with locked(self.home / "stack.lock", lambda: self.say("waiting for another soma stack")):
            noted = read_json(self.note)
            if noted and self._wants_ephemeral and not noted.get("ephemeral"):
                raise StackError(
                    f"{self.home} holds a stack whose data is kept: set SOMA_HOME to another "
                    "folder for an ephemeral one."
                )
            if not noted:
                # Noted first: a `down` after an interrupted `up` knows what to remove.
                write_whole(self.note, _json({"version": 1, "ephemeral": self.ephemeral}))
            wanted = self._wanted()
            # Parts start side by side; each notes its ports before it starts.
            with ThreadPoolExecutor(len(self.parts)) as pool:
                started = list(pool.map(self._ensure, wanted))
            return self._noted({part.name: pid for part, pid in zip(wanted, started, strict=True)})

    def down(self) -> None:
        """Stop every part cleanly; an ephemeral stack's at once, and remove its data."""
        if not self.home.exists():
            return
        with locked(self.home / "stack.lock", lambda: self.say("waiting for another soma stack")):
            with ThreadPoolExecutor(len(self.parts)) as pool:
                list(pool.map(self._end if self.ephemeral else self.stop, self.parts))
            if self.ephemeral:
                self._remove()

    def destroy(self) -> None:
        """Stop every part and remove its data, kept or not (the jars stay)."""
        self.ephemeral = True
        self.down()

    def _remove(self) -> None:
        for part in self.parts.values():
            part.remove()
            self._note_of(part).unlink(missing_ok=True)
        shutil.rmtree(self.home / "logs", ignore_errors=True)
        self.note.unlink(missing_ok=True)

    def start(self, name: str) -> int:
        """Start one part and await that it answers; its pid."""
        self._writable()
        return self._ensure(self.parts[name])

    def stop(self, name: str) -> None:
        """Stop one part cleanly; returns when its process is gone."""
        self._stop(self.parts[name], self.parts[name].stop_signal)

    def _end(self, name: str) -> None:
        self._stop(self.parts[name], self.parts[name].end_signal)

    def _stop(self, part: StackServer, how: signal.Signals) -> None:
        process = self._process(part)
        if process is not None:
            self.say(f"stopping {part.title}")
            if not stop(process, how, part.stop_s):
                self.say(f"{part.title} had to be killed after {part.stop_s:.0f} s")

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> int:
        """Send one part a signal (for the tests of bad days); the pid it went to."""
        process = self._process(self.parts[name])
        if process is None:
            raise StackError(f"{self.parts[name].title} doesn't run")
        process.send_signal(how)
        if how == signal.SIGKILL and not wait_until(lambda: not alive(process), 10.0):
            raise StackError(f"process {process.pid} doesn't die")
        return int(process.pid)

    def status(self) -> list[PartStatus]:
        """Each part that is the stack's to run, as it is now; starts nothing."""
        return [self._status(part) for part in self._wanted()]

    def _wanted(self) -> list[StackServer]:
        return [part for part in self.parts.values() if part.name not in self._without]

    def _status(self, part: StackServer) -> PartStatus:
        process, ports = self._process(part), self._ports(part)
        return PartStatus(
            name=part.name,
            running=process is not None,
            ready=process is not None and bool(ports) and part.ready(ports),
            pid=process.pid if process else None,
            port=ports.get(part.port_names[0]),
            log=str(part.log),
        )

    def _ensure(self, part: StackServer) -> int:
        """The pid of the part, answering."""
        process, ports = self._process(part), self._ports(part)
        if process is not None and ports:
            if part.ready(ports) or self._answers(part, process, ports):
                return int(process.pid)
            self.say(f"{part.title} runs but doesn't answer: starting it anew")
        if process is not None:
            stop(process, part.stop_signal, part.stop_s)
        for _ in range(STARTS_MAX):
            ports = net.choose(part.port_names, self._ports(part))
            write_whole(self._note_of(part), _json({"ports": ports}))
            part.prepare(ports)
            self.say(f"starting {part.title}")
            process = part.launch(ports)
            write_whole(self._note_of(part), _json({"ports": ports, "pid": process.pid}))
            if self._answers(part, process, ports):
                self.say(f"{part.title} answers on port {ports[part.port_names[0]]}")
                return int(process.pid)
            if alive(process):
                stop(process, part.stop_signal, part.stop_s)
                break
        raise StackError(
            f"{part.title} doesn't start. Its log ({part.log}) ends:\n{self._tail(part)}"
        )

    def _answers(
        self, part: StackServer, process: psutil.Process, ports: Mapping[str, int]
    ) -> bool:
        """Wait until the part answers; false when it died or its time is over."""
        wait_until(lambda: not alive(process) or part.ready(ports), part.start_s)
        return alive(process) and part.ready(ports)

    def _tail(self, part: StackServer) -> str:
        output = self.home / "logs" / f"{part.name}.log"
        return tail(part.log) if part.log == output else f"{tail(part.log)}\n{tail(output)}"

    def _process(self, part: StackServer) -> psutil.Process | None:
        return find(part.marker, read_json(self._note_of(part)).get("pid"))

    def _ports(self, part: StackServer) -> dict[str, int]:
        return dict(read_json(self._note_of(part)).get("ports", {}))

    def _note_of(self, part: StackServer) -> Path:
        return self.home / f"stack.{part.name}.json"

    def _noted(self, pids: Mapping[str, int]) -> Endpoints:
        """Write what settings read: how to connect to each part."""

        def address(name: str) -> str:
            return self.parts[name].address(self._ports(self.parts[name])) if name in pids else ""

        ends = Endpoints(address("kafka"), address("postgres"), address("valkey"), dict(pids))
        data: dict[str, Any] = asdict(ends)
        data.pop("pids")
        noted = {"version": 1, "ephemeral": self.ephemeral, "endpoints": data, "pids": dict(pids)}
        if noted != read_json(self.note):
            write_whole(self.note, _json(noted))
        return ends

    def _writable(self) -> None:
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StackError(
                f"{self.home} can't be made ({error.strerror}): set SOMA_HOME to another folder."
            ) from error
        if not os.access(self.home, os.W_OK | os.X_OK):
            raise StackError(f"{self.home} can't be written to: set SOMA_HOME to another folder.")


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"
