"""Kafka's jars, brought by Maven once and kept in a cache that several stacks share."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from xml.etree import ElementTree

from ops.stack.files import locked, tail
from ops.stack.processes import StackError
from ops.stack.server import Say

JAVA_MIN = 17
# Of the default home; test stacks use it too. Where there is no home, the tilde stays.
SHARED = Path(os.path.expanduser("~/.soma/jars"))  # noqa: PTH111
DOWNLOAD_S = 900.0
OWN_BROKER = "or set SOMA_KAFKA_BOOTSTRAP=host:port to use a broker of your own"


def jars(cache: Path, say: Say) -> Path:
    """The folder with the jars of the Kafka that ops/kafka/pom.xml names; fetched if need be."""
    pom = files("ops.kafka").joinpath("pom.xml").read_text()
    version = kafka_version(pom)
    folder = cache / f"kafka-{version}-{hashlib.sha256(pom.encode()).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    with locked(cache / ".lock", lambda: say("waiting for another download of Kafka's jars")):
        if not folder.is_dir():
            say(f"fetching Kafka {version} by Maven (the first time only, about a minute)")
            _fetch(folder)
    return folder


def kafka_version(pom: str) -> str:
    """The version that the pom asks for."""
    found = ElementTree.fromstring(pom).findtext("{*}properties/{*}kafka.version")
    if not found:
        raise StackError("ops/kafka/pom.xml names no kafka.version")
    return found


def _fetch(folder: Path) -> None:
    maven = executable("mvn", "Maven", "maven")
    java()
    part = folder.with_name(folder.name + ".part")
    # What an interrupted download left is never taken for the whole.
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    log = folder.with_name("maven.log")
    goal = ["dependency:copy-dependencies", f"-DoutputDirectory={part}", "-DincludeScope=runtime"]
    with as_file(files("ops.kafka").joinpath("pom.xml")) as pom, log.open("wb") as out:
        done = subprocess.run(
            [maven, "-B", "-ntp", "-f", str(pom), *goal],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=DOWNLOAD_S,
            check=False,
        )
    if done.returncode != 0:
        raise StackError(f"Maven couldn't fetch Kafka ({log}):\n{tail(log)}")
    part.rename(folder)


def java() -> str:
    """The path of a Java that Kafka 4 runs on."""
    path = executable("java", f"Java {JAVA_MIN} or newer", "openjdk-17-jre-headless")
    told = subprocess.run(
        [path, "-version"], capture_output=True, text=True, timeout=60, check=False
    ).stderr
    found = re.search(r'version "(\d+)', told)
    if found is None or int(found[1]) < JAVA_MIN:
        raise StackError(
            f"Kafka 4 needs Java {JAVA_MIN} or newer, but {path} says: {told.strip()}\n"
            f"Put a newer one first on the PATH, {OWN_BROKER}."
        )
    return path


def executable(name: str, what: str, package: str) -> str:
    """The path of a program; a clear message when it is missing."""
    home = os.environ.get("JAVA_HOME", "")
    found = shutil.which(name) or shutil.which(str(Path(home, "bin", name)) if home else name)
    if found is None:
        raise StackError(
            f"The local Kafka needs {what}, and there is no `{name}` on the PATH.\n"
            f"Install it (on Debian or Ubuntu: apt-get install {package}), {OWN_BROKER}."
        )
    return found


def main() -> None:
    """Fetch the jars into the cache that the tests share; a set-up step of `make`."""
    if not SHARED.is_absolute():
        sys.exit(f"{SHARED} can't be found: there is neither HOME nor an account of this user")
    try:
        jars(SHARED, lambda text: print(text, file=sys.stderr))
    except StackError as error:
        sys.exit(str(error))
