"""`soma bench rho`: how long a read of a density matrix takes while others commit.

One `soma api` as it runs in production, over HTTP: readers ask for octets one after another,
writers commit by compare-and-set, each a key of its own. All in processes beside this one's.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import httpx
import numpy as np

from agents.rho.envelope import MEDIA_TYPE, pack, unpack
from agents.settings import Settings
from ops.bench.report import Report
from ops.bench.site import Say
from stores import migrations
from stores.names import quoted, schema_of
from stores.postgres import connected

ROOT = Path(__file__).parents[2]
GOAL_MS = 60.0
KEYS = 8
WRITERS_MAX = KEYS  # each has a key of its own
READY_S, ANSWER_S = 120.0, 60.0
COLUMNS = ("D", "writers", "commits/s", "reads/s", "read p50 ms", "p95 ms", "p99 ms", "wanted")
METHOD = (
    "One `soma api` on one machine with its PostgreSQL (which forces commits to disk) and Valkey "
    "(which writes nothing there), over HTTP on the loopback: "
    "{readers} readers ask for {rate:g} matrices a second in all, one of {keys} after the other "
    "({dimension} × {dimension}, float64, as octets, their CRC checked); a read counts from when "
    "it was due (open loop; at rate 0 each reader asks when it has the last one). So many writers, "
    "each committing the next version of a key of its own when the last one is answered, without a "
    "pause. {seconds:g} s each. Readers and writers are processes "
    "of their own and share the machine's cores with the servers and all else that runs."
)

APPENDING = (
    "A Redis that appends each write to a file (`appendonly yes`, as the local stack's does) holds "
    "its readers up while the disk is busy: with 1 and 2 writers the p95 was 726 and 2,066 ms on "
    "the same machine (load 5 to 6). A cache can do without: `appendonly no`."
)


@dataclass(frozen=True)
class Workload:
    """What to run."""

    dimension: int = 512
    readers: int = 2
    writers: tuple[int, ...] = (0, 2)
    rate: float = 20.0  # reads a second, of all readers; 0: as quickly as they are answered
    seconds: float = 10.0


@dataclass
class Result:
    """Figures of one number of writers."""

    writers: int
    read_ms: list[float] = field(default_factory=list)
    commits: int = 0
    seconds: float = 0.0
    load: float = 0.0

    def at(self, share: float) -> float:
        """The read that so many were quicker than, ms."""
        ordered = sorted(self.read_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def run(settings: Settings, workload: Workload, say: Say) -> list[Result]:
    """Each number of writers, in a schema of its own that is dropped at the end."""
    found = []
    with _schema(settings) as own, _api(own) as base:
        _fill(base, workload.dimension)
        for writers in workload.writers:
            found.append(_measured(base, workload, writers))
            one = found[-1]
            say(f"{writers} writers: {len(one.read_ms)} reads, p95 {one.at(0.95):.1f} ms, "
                f"load {one.load:.1f}")  # fmt: skip
    return found


def report(workload: Workload, found: list[Result]) -> Report:
    """The table."""
    rows = [
        (
            f"{workload.dimension}", f"{one.writers}", f"{one.commits / one.seconds:.1f}",
            f"{len(one.read_ms) / one.seconds:.0f}", f"{one.at(0.5):.1f}", f"{one.at(0.95):.1f}",
            f"{one.at(0.99):.1f}", f"p95 < {GOAL_MS:g} ms" if one.writers else "",
        )
        for one in found
    ]  # fmt: skip
    load = ", ".join(f"{one.load:.1f}" for one in found)
    method = METHOD.format(keys=KEYS, **vars(workload))
    notes = [f"Load average (1 min) after each row: {load}.", APPENDING]
    return Report("rho", COLUMNS, rows, method, notes)


def as_json(found: list[Result]) -> list[dict[str, float]]:
    """The same as data."""
    return [
        {
            "writers": one.writers, "reads": len(one.read_ms), "commits": one.commits,
            "seconds": one.seconds, "p50_ms": one.at(0.5), "p95_ms": one.at(0.95),
            "p99_ms": one.at(0.99), "load": one.load,
        }
        for one in found
    ]  # fmt: skip


def _measured(base: str, workload: Workload, writers: int) -> Result:
    """Start the callers, and gather what they print."""
    began = time.time() + 1.0 + workload.seconds / 10  # when all of them have started
    every = workload.readers / workload.rate if workload.rate else 0.0
    given = [base, str(workload.dimension), str(began), str(began + workload.seconds), str(every)]
    roles = [("read", n) for n in range(workload.readers)]
    roles += [("write", n) for n in range(writers)]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "ops.bench.rho", role, str(n), *given],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for role, n in roles
    ]  # fmt: skip
    found = Result(writers)
    for (role, _), process in zip(roles, running, strict=True):
        text, _ = process.communicate(timeout=workload.seconds + READY_S)
        if process.returncode:
            raise RuntimeError(f"a {role}er ended with {process.returncode}")
        took = [float(one) for one in text.split()]
        if role == "read":
            found.read_ms += took
        else:
            found.commits += len(took)
    found.seconds, found.load = workload.seconds, os.getloadavg()[0]
    return found


@contextmanager
def _schema(settings: Settings) -> Iterator[Settings]:
    own = settings.model_copy(update={"namespace": f"bench-{uuid.uuid4().hex[:8]}"})
    schema = schema_of(own.namespace)

    async def made() -> None:
        async with connected(own.postgres(), "soma bench") as connection:
            await migrations.up(connection, schema, migrations.load())

    async def dropped() -> None:
        async with connected(own.postgres(), "soma bench") as connection:
            await connection.execute(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE")

    asyncio.run(made())
    try:
        yield own
    finally:
        asyncio.run(dropped())


@contextmanager
def _api(settings: Settings) -> Iterator[str]:
    """A `soma api` on these stores; where it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("SOMA_")}
    with tempfile.TemporaryDirectory(prefix="soma-bench-") as home:
        env = kept | {
            "SOMA_HOME": home, "SOMA_NAMESPACE": settings.namespace, "SOMA_API__AUTH": "off",
            "SOMA_POSTGRES_DSN": settings.postgres(), "SOMA_REDIS_URL": settings.redis(),
            "SOMA_API__PORT": str(port), "SOMA_LOG_LEVEL": "warning",
            "SOMA_API__RATE_PER_S": "1000000", "SOMA_API__RATE_BURST": "10000000",
        }  # fmt: skip
        command = [sys.executable, "-m", "agents.cli", "api"]
        process = subprocess.Popen(command, cwd=ROOT, env=env)
        try:
            yield _answers(f"http://127.0.0.1:{port}", process)
        finally:
            process.terminate()
            process.wait(READY_S)


def _answers(base: str, process: "subprocess.Popen[bytes]") -> str:
    until = time.monotonic() + READY_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{base}/healthz", timeout=2.0).is_success:
                return base
        time.sleep(0.1)
    raise TimeoutError(f"soma api doesn't answer within {READY_S:g} s")


def _octets(dimension: int, number: int) -> bytes:
    v = np.cos(np.arange(dimension) * 0.1 + number)
    return pack(np.outer(v, v) / (v @ v))


def _asked(http: HTTPConnection, method: str, path: str, body: bytes | None = None) -> HTTPResponse:
    """An answer, all of it to be read. (http.client: a read of 2 MiB costs httpx 10 ms of CPU.)"""
    kind = {"content-type": MEDIA_TYPE, "accept": MEDIA_TYPE}
    http.request(method, path, body, kind)
    answer = http.getresponse()
    if answer.status != HTTPStatus.OK:
        raise RuntimeError(f"{method} {path} was answered {answer.status}: {answer.read()!r}")
    return answer


def _put(http: httpx.Client, key: str, expected: int, content: bytes) -> None:
    where, kind = f"/rho/{key}?expected_version={expected}", {"content-type": MEDIA_TYPE}
    http.put(where, content=content, headers=kind).raise_for_status()


def _fill(base: str, dimension: int) -> None:
    with httpx.Client(base_url=base, timeout=ANSWER_S) as http:
        for n in range(KEYS):
            _put(http, f"k{n}", 0, _octets(dimension, n))


def _calls(role: str, number: int, base: str, dimension: int, times: tuple[float, ...]) -> None:
    """What a caller's process does: prints how long each answer took, ms.

    `times`: when to begin and to end (s since 1970), and the time between two reads.
    """
    began, end, every = times
    took: list[float] = []
    contents = [_octets(dimension, n) for n in range(2)]
    http = HTTPConnection(base.removeprefix("http://"), timeout=ANSWER_S)
    own = f"/rho/k{number % KEYS}"
    first = _asked(http, "GET", own)
    version, turn = int(first.headers["x-rho-version"]), number
    first.read()
    due = began + every * number / 2  # readers take turns
    while True:
        time.sleep(max(0.0, due - time.time()))
        since = due if every and role == "read" else time.time()
        if since >= end:
            break
        if role == "write":
            put = f"{own}?expected_version={version}"
            _asked(http, "PUT", put, contents[version % 2]).read()
            version += 1
        else:
            turn += 1
            unpack(_asked(http, "GET", f"/rho/k{turn % KEYS}").read())
            due += every
        took.append((time.time() - since) * 1000)
    print(*(f"{one:.3f}" for one in took))


if __name__ == "__main__":
    _role, _number, _base, _dimension, *_times = sys.argv[1:]
    _calls(_role, int(_number), _base, int(_dimension), tuple(map(float, _times)))
