"""An Apicurio Registry for tests, as Maven brings it: one process on the loopback, in memory.

It needs a newer Java than Kafka does. `main` fetches it ahead: a test's time is for the test.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.stack.files import locked, tail
from ops.stack.jars import DOWNLOAD_S, SHARED, executable
from ops.stack.ports import HOST, free_port
from ops.stack.processes import StackError, environment, wait_until

VERSION = "3.3.3"
JAVA_MIN = 21
START_S = 150.0
# Java compiles in haste: a start takes 5 s of CPU.
FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")


def fetched(cache: Path = SHARED) -> Path:
    """The folder with the registry; brought by Maven if need be."""
    folder = cache / f"apicurio-registry-{VERSION}"
    with locked(cache / ".apicurio.lock", lambda: None):
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    part, log = folder.with_name(folder.name + ".part"), folder.with_name("apicurio.log")
    shutil.rmtree(part, ignore_errors=True)  # what an interrupted download left
    part.mkdir(parents=True)
    artifact = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
    maven = [executable("mvn", "Maven", "maven"), "-B", "-ntp"]
    with log.open("wb") as out:
        done = subprocess.run(
            [*maven, "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={part}"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=DOWNLOAD_S,
            check=False,
        )
    if done.returncode != 0:
        raise StackError(f"Maven couldn't fetch Apicurio Registry ({log}):\n{tail(log)}")
    packed = next(part.glob("*.tar.gz"))
    with tarfile.open(packed) as archive:
        archive.extractall(part, filter="data")
    packed.unlink()
    part.rename(folder)


def java() -> str:
    """A Java that it runs on: the one in use, or one that is installed beside it."""
    usual = Path(executable("java", f"Java {JAVA_MIN} or newer", "openjdk-21-jre-headless"))
    beside = sorted(usual.resolve().parents[2].glob("*/bin/java"))
    said = {str(path): _version(path) for path in (usual, *beside)}
    for path, version in said.items():
        if version >= JAVA_MIN:
            return path
    raise StackError(f"Apicurio Registry {VERSION} needs Java {JAVA_MIN} or newer, not {said}")


def _version(path: Path) -> int:
    told = subprocess.run(
        [path, "-version"], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


@contextmanager
def running(home: Path) -> Iterator[str]:
    """A registry that ends with the block: the URL of its API as Confluent's is."""
    port, log = free_port(), home / "apicurio.log"
    ours = {
        "QUARKUS_HTTP_HOST": HOST,
        "QUARKUS_HTTP_PORT": str(port),
        "QUARKUS_HTTP_ACCESS_LOG_ENABLED": "false",
        "QUARKUS_MANAGEMENT_HOST": HOST,
        "QUARKUS_MANAGEMENT_PORT": str(free_port()),
        "QUARKUS_LOG_LEVEL": "WARN",
        "APICURIO_STORAGE_KIND": "sql",
        "APICURIO_STORAGE_SQL_KIND": "h2",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [java(), *FLAGS, "-jar", str(fetched() / "quarkus-run.jar")],
            cwd=home,
            env=environment() | ours,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    url = f"http://{HOST}:{port}/apis/ccompat/v7"
    try:
        wait_until(lambda: process.poll() is not None or _answers(url), START_S)
        if process.poll() is not None or not _answers(url):
            raise StackError(f"Apicurio Registry doesn't start ({log}):\n{tail(log)}")
        yield url
    finally:
        process.kill()
        process.wait(30.0)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Fetch it into the cache that the tests share; a set-up step of `make`."""
    try:
        fetched()
    except StackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    os.umask(0o077)
    main()
