"""What the tests of schema registries share: one registry for a module's tests, and its schemas."""

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.apicurio import running
from tests.live.helpers import soma

TIMEOUT_S = 60.0  # for an answer: on a machine that may be busy
TYPE = "application/vnd.schemaregistry.v1+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a registry of this module's own, with all schemas registered."""
    home = tmp_path_factory.mktemp("registry")
    with running(home) as url:
        done = soma("schema", "register", "--json", env=at(url, home), timeout=150.0)
        assert done.returncode == 0, done.stderr
        yield url


def at(url: str, home: Path, **more: str) -> dict[str, str]:
    """The environment of a process whose ids come from a registry."""
    bare = {name: text for name, text in os.environ.items() if not name.startswith("SOMA_")}
    ours = {
        "SOMA_HOME": str(home),
        "SOMA_SCHEMA_REGISTRY_URL": url,
        "SOMA_SCHEMA_REGISTRY_TIMEOUT_S": str(TIMEOUT_S),
    }
    return bare | ours | more


def ask(method: str, url: str, body: object = None) -> Any:
    """One question to a registry, as another client would ask it."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": TYPE}, method=method)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.loads(answer.read())
