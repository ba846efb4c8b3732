"""PostgreSQL's own user, where the stack runs as root."""

import os
import pwd
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

import pytest

from ops.stack import postgres
from ops.stack.postgres import Postgres


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes users")
def test_stacks_that_start_at_once_on_a_new_machine_make_its_user_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each useradd wrote an entry over the other's: initdb ran as a number that had no name."""
    name = f"soma_test_{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(postgres, "SYSTEM_USER", name)
    monkeypatch.setattr(postgres, "SYSTEM_ROOT", tmp_path)
    seen = []
    monkeypatch.setattr(Postgres, "_initdb", lambda self: seen.append(pwd.getpwnam(name)))
    stacks = [Postgres(tmp_path / str(k), True, lambda _: None) for k in range(4)]
    try:
        with ThreadPoolExecutor(len(stacks)) as pool:
            list(pool.map(lambda one: one.prepare(MappingProxyType({})), stacks))
        assert seen == [pwd.getpwnam(name)] * len(stacks)
    finally:
        subprocess.run(["userdel", name], check=False, capture_output=True, timeout=30)
