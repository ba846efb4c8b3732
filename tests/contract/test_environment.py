"""What libraries would take from the environment, and don't: settings come from SOMA_… alone."""

import asyncio
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from asyncpg import connect_utils

from stores.errors import StoreDown
from stores.postgres import connect, readable
from tests.live.helpers import REPO

DSN = "postgresql://u:p@127.0.0.1:1/d"
HOSTILE = {
    "PGHOST": "elsewhere", "PGPORT": "x", "PGUSER": "other", "PGPASSWORD": "other",
    "PGDATABASE": "other", "PGSSLMODE": "no such mode", "PGSSLCERT": "/no/such/file",
    "PGSSLKEY": "/no/such/file", "PGSSLROOTCERT": "/no/such/file", "PGSSLCRL": "/no/such/file",
    "PGSSLNEGOTIATION": "x", "PGSSLMINPROTOCOLVERSION": "x", "PGSSLMAXPROTOCOLVERSION": "x",
    "PGTARGETSESSIONATTRS": "x", "PGSERVICE": "x", "PGSERVICEFILE": "/no/such/file",
    "PGPASSFILE": "/no/such/file", "PGGSSLIB": "x", "PGKRBSRVNAME": "x",
}  # fmt: skip


def modules(package: str) -> set[str]:
    """The modules of a package that ask for the environment."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    return {
        path.stem
        for path in Path(spec.origin).parent.rglob("*.py")
        if "_testbase" not in path.parts
        and re.search(r"\b(environ|getenv)\b[\[.(]", path.read_text(encoding="utf-8"))
    }


def test_one_module_of_asyncpg_asks_and_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # (cluster runs servers for asyncpg's own tests.)
    assert modules("asyncpg") == {"connect_utils", "cluster"}
    asked = set(
        re.findall(r"\"(PG[A-Z]+)\"|'(PG[A-Z]+)'", Path(connect_utils.__file__).read_text())
    )
    names = {one or other for one, other in asked} - {"PGPASSFILE", "PGPASSWORD"}
    assert names <= HOSTILE.keys() | {"PGPASS"}, "a variable that is new"
    for name, text in HOSTILE.items():
        monkeypatch.setenv(name, text)
    assert connect_utils.os.environ == {} and connect_utils.os.getenv("PGHOST", "d") == "d"
    addresses, params, _ = connect_utils._parse_connect_arguments(
        dsn=DSN, host=None, port=None, user=None, password=None, passfile=None, database=None,
        command_timeout=None, statement_cache_size=1, max_cached_statement_lifetime=1,
        max_cacheable_statement_size=1, ssl=None, direct_tls=None, server_settings=None,
        target_session_attrs=None, krbsrvname=None, gsslib=None, service=None, servicefile=None,
    )  # fmt: skip
    assert addresses == [("127.0.0.1", 1)]
    assert (params.user, params.password, params.database) == ("u", "p", "d")
    assert params.sslmode.name == "prefer" and params.target_session_attrs.name == "any"


def test_redis_asks_for_nothing() -> None:
    assert modules("redis") == set()


def test_session_keys_are_written_nowhere(tmp_path: Path) -> None:
    program = "import ssl, stores; print(ssl.create_default_context().keylog_filename)"
    keys = tmp_path / "keys"
    told = subprocess.run(
        [sys.executable, "-c", program], env={"SSLKEYLOGFILE": str(keys)}, cwd=REPO, text=True,
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == "None" and not keys.exists()


def test_a_dsn_is_readable_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in HOSTILE.items():
        monkeypatch.setenv(name, text)
    asyncio.run(readable(DSN))
    with pytest.raises(StoreDown, match=r"Connect call failed|refused"):
        asyncio.run(connect(DSN, "test"))
