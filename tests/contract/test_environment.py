"""What libraries would take from the environment, and don't: settings come from SOMA_… alone."""

import ast
import asyncio
import importlib
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from asyncpg import connect_utils

import agents
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


# A Faust app's settings as the environment leaves them, and what Faust's modules have read of it.
FAUST = """
import json, os, sys
import agents, faust
from faust.types import _env
from agents.engine.bare import build
from agents.settings import load
conf = build(load()).conf
said = {name: str(getattr(conf, name)) for name in conf.setting_names()}
said |= {name: str(getattr(_env, name)) for name in _env.__all__}
said |= {name: os.environ.get(name) for name in agents.FOREIGN}
print(json.dumps({name: text for name, text in said.items() if " at 0x" not in str(text)}))
"""


def built(home: Path, environment: dict[str, str]) -> dict[str, str]:
    own = {"SOMA_HOME": str(home), "SOMA_KAFKA_BOOTSTRAP": "127.0.0.1:1", "SOMA_WEB_PORT": "6070"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FAUST], env=environment | own, cwd=REPO, text=True,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, str] = json.loads(done.stdout)
    return said | {"reply_to": "a random name"}


def test_a_worker_reads_where_its_settings_say_whatever_faust_is_told(tmp_path: Path) -> None:
    """Faust would put its own variables before the arguments: another cluster's records."""
    from faust import Settings as FaustSettings

    names = {one.env_name for one in FaustSettings.SETTINGS.values() if one.env_name}
    assert len(names) > 70
    hostile = dict.fromkeys([*names, *agents.FOREIGN], "7")
    hostile |= {"BROKER_URL": "kafka://127.0.0.1:2", "APP_ENV_PREFIX": "X_", "X_WEB_PORT": "7"}
    plain = built(tmp_path, {})
    assert plain["broker"] == plain["broker_consumer"] == "[URL('kafka://127.0.0.1:1')]"
    assert built(tmp_path, hostile) == plain
    del hostile["APP_ENV_PREFIX"]
    assert built(tmp_path, hostile) == plain


def test_the_names_that_libraries_read_while_they_are_imported_are_known() -> None:
    env = importlib.import_module("faust.types._env")
    tree = ast.parse(Path(str(env.__file__)).read_text(encoding="utf-8"))
    asked = {
        prefix + str(ast.literal_eval(one.args[0]))
        for one in ast.walk(tree)
        if isinstance(one, ast.Call) and getattr(one.func, "id", "") == "_getenv"
        for prefix in env.PREFICES
    }
    assert asked <= set(agents.FOREIGN)
    assert not set(agents.FOREIGN) & os.environ.keys()


def test_metrics_are_kept_in_memory_whatever_the_environment_says(tmp_path: Path) -> None:
    program = "import agents.engine.metrics, matplotlib"
    hostile = dict.fromkeys(agents.FOREIGN, "/nonexistent")
    done = subprocess.run(
        [sys.executable, "-c", program], env=hostile | {"HOME": str(tmp_path)}, cwd=REPO, text=True,
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
