"""The real `opa`, where there is one: named by SOMA_TEST_OPA, or found on the PATH."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def opa() -> Path:
    """The binary; skips the test, saying how to get it, where there is none."""
    found = os.environ.get("SOMA_TEST_OPA") or shutil.which("opa")
    if not found or not Path(found).is_file():
        pytest.skip(
            "no opa: set SOMA_TEST_OPA, or `go install github.com/open-policy-agent/opa@latest`"
        )
    return Path(found)


def run(*args: str, text: str = "") -> str:
    """What `opa ARGS` prints; fails with its errors."""
    done = subprocess.run(
        [opa(), *args], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
