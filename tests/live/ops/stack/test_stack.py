"""The local stack, for real: found again, repaired, stopped without a trace, its data kept."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis
from confluent_kafka.admin import AdminClient, NewTopic

from ops.stack import Endpoints, Stack, StackError
from ops.stack.files import read_json
from ops.stack.jars import SHARED, executable, jars
from tests.contract.test_environment import HOSTILE
from tests.live.helpers import REPO, eventually, soma

PARTS = ("kafka", "postgres", "valkey")
NewHome = Callable[[], Path]


@pytest.fixture(scope="module")
def kept(new_home: NewHome) -> Iterator[Stack]:
    """A stack whose data is kept, up."""
    one = Stack(new_home(), cache=SHARED)
    one.up()
    yield one
    one.down()


def admin(ends: Endpoints) -> AdminClient:
    return AdminClient({"bootstrap.servers": ends.kafka_bootstrap, "log_level": 0})


def run_sql(ends: Endpoints, sql: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(ends.postgres_dsn)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(run())


def processes_of(home: Path) -> list[psutil.Process]:
    """Every live process that has the home, or the data of its PostgreSQL, in its command line."""
    words = (str(home), str(Stack(home).parts["postgres"].marker[1]))
    found = []
    for one in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(one.info["cmdline"] or ())
        if one.info["status"] != psutil.STATUS_ZOMBIE and any(word in line for word in words):
            found.append(one)
    return found


def home_only(home: Path) -> dict[str, str]:
    """An environment in which nothing of the project is set but its home."""
    bare = {name: text for name, text in os.environ.items() if not name.startswith("SOMA_")}
    return {**bare, "SOMA_HOME": str(home)}


def command(home: Path, *words: str, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "agents.cli", "stack", *words],
        cwd=REPO,
        env={**home_only(home), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_second_up_finds_the_first(kept: Stack) -> None:
    first = kept.up()
    said: list[str] = []
    second = Stack(kept.home, cache=SHARED, say=said.append).up()
    assert second == first
    assert said == []  # nothing was started, nothing waited for


@pytest.mark.parametrize("part", PARTS)
def test_up_repairs_just_the_part_that_was_killed(kept: Stack, part: str) -> None:
    before = kept.up()
    kept.kill(part, signal.SIGKILL)
    assert [one.name for one in kept.status() if not one.ready] == [part]
    after = kept.up()
    assert all(one.ready for one in kept.status())
    assert {name for name in PARTS if after.pids[name] != before.pids[name]} == {part}
    assert (after.kafka_bootstrap, after.postgres_dsn, after.redis_url) == (
        before.kafka_bootstrap,
        before.postgres_dsn,
        before.redis_url,
    )


def test_data_and_ports_survive_and_down_leaves_no_process(kept: Stack) -> None:
    before = kept.up()
    client = admin(before)
    client.create_topics([NewTopic("kept", num_partitions=3, replication_factor=1)])["kept"].result(
        10
    )
    run_sql(before, "CREATE TABLE kept AS SELECT 42 AS answer")
    with redis.Redis.from_url(before.redis_url) as cache:
        cache.set("kept", "42")

    kept.down()
    assert processes_of(kept.home) == []
    assert not any(one.running for one in kept.status())

    after = kept.up()
    assert after.kafka_bootstrap == before.kafka_bootstrap
    eventually(lambda: "kept" in admin(after).list_topics(timeout=5).topics, 10)
    assert len(admin(after).list_topics("kept", timeout=5).topics["kept"].partitions) == 3
    assert run_sql(after, "SELECT answer FROM kept") == 42
    with redis.Redis.from_url(after.redis_url) as cache:
        assert cache.get("kept") == b"42"


def test_a_port_that_was_taken_is_changed_and_the_data_kept(kept: Stack) -> None:
    before = kept.up()
    client = admin(before)
    client.create_topics([NewTopic("taken", 1, 1)])["taken"].result(30)
    ports = read_json(kept.home / "stack.kafka.json")["ports"]
    kept.stop("kafka")
    with socket.socket() as broker, socket.socket() as controller:
        for one, port in ((broker, ports["kafka"]), (controller, ports["controller"])):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
            one.listen()
        after = kept.up()
    assert after.kafka_bootstrap != before.kafka_bootstrap
    eventually(lambda: "taken" in admin(after).list_topics(timeout=5).topics, 10)
    assert read_json(kept.note)["endpoints"]["kafka_bootstrap"] == after.kafka_bootstrap


def test_a_pid_that_now_is_another_process_is_left_alone(kept: Stack) -> None:
    kept.up()
    kept.kill("valkey")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        note = kept.home / "stack.valkey.json"
        note.write_text(note.read_text().replace(str(read_json(note)["pid"]), str(stranger.pid)))
        kept.stop("valkey")
        assert stranger.poll() is None
        assert kept.up().pids["valkey"] != stranger.pid
        assert stranger.poll() is None
        stranger.kill()


def test_two_at_once_start_one(new_home: NewHome) -> None:
    home = new_home()
    (home / "jars").symlink_to(SHARED)
    runs = [command(home, "up", "--ephemeral", "--json") for _ in range(2)]
    ended = [run.communicate(timeout=120) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], ended
    assert ended[0][0] == ended[1][0]  # the same pids
    assert len([err for _, err in ended if "starting Kafka" in err]) == 1

    # What another process started is found, and its data removed: it was ephemeral.
    run = command(home, "down")
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert "stopped" in out
    assert processes_of(home) == []
    assert not Path(Stack(home).parts["postgres"].marker[1]).exists()
    assert {path.name for path in home.iterdir()} <= {"jars", "stack.lock"}


def test_an_ephemeral_stack_is_refused_where_data_is_kept(kept: Stack) -> None:
    kept.up()
    with pytest.raises(StackError, match="data is kept"):
        Stack(kept.home, ephemeral=True, cache=SHARED).up()


def test_jars_half_fetched_are_fetched_anew(tmp_path: Path) -> None:
    whole = jars(SHARED, lambda _: None)
    part = tmp_path / f"{whole.name}.part"
    part.mkdir()
    (part / "half.jar").write_bytes(b"PK")
    fetched = jars(tmp_path, lambda _: None)
    assert {jar.name for jar in fetched.iterdir()} == {jar.name for jar in whole.iterdir()}
    assert not part.exists()


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_a_missing_program_is_named_with_the_way_out(tmp_path: Path, missing: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    if missing == "mvn":
        (programs / "java").symlink_to(executable("java", "Java", "java"))
    run = command(tmp_path / "home", "up", "--ephemeral", PATH=str(programs), JAVA_HOME="")
    _, err = run.communicate(timeout=60)
    soma("stack", "down", env=home_only(tmp_path / "home"))
    assert run.returncode == 1
    assert f"no `{missing}` on the PATH" in err
    assert "SOMA_KAFKA_BOOTSTRAP" in err
    assert "Traceback" not in err
    assert processes_of(tmp_path / "home") == []


def test_a_broker_of_ones_own_is_not_started_again(stack: Endpoints, new_home: NewHome) -> None:
    home = new_home()
    run = command(home, "up", "--ephemeral", SOMA_KAFKA_BOOTSTRAP=stack.kafka_bootstrap)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, err
    assert "your own" in out
    assert "kafka" not in " ".join(str(one.cmdline()) for one in processes_of(home))
    assert soma("stack", "down", env=home_only(home)).returncode == 0
    assert processes_of(home) == []


def test_what_the_environment_says_to_other_clients_leaves_the_servers_alone(kept: Stack) -> None:
    before = {part.name: part.pid for part in kept.status()}
    # What asyncpg would refuse, and what it would obey.
    obeyed = {
        "PGSSLMODE": "require",
        "PGTARGETSESSIONATTRS": "standby",
        "PGSSLNEGOTIATION": "direct",
    }
    for told in (HOSTILE, obeyed):
        for verb in ("status", "up"):
            one = command(kept.home, verb, **told)
            said = one.communicate(timeout=120)
            assert one.returncode == 0, said
    assert {part.name: part.pid for part in kept.status()} == before


def test_a_server_that_refuses_us_is_not_restarted(kept: Stack) -> None:
    before = kept._status(kept.parts["postgres"]).pid
    password = kept.parts["postgres"].folder / "password"  # type: ignore[attr-defined]
    right = password.read_text()
    password.write_text("wrong")
    try:
        with pytest.raises(StackError, match=r"PostgreSQL runs, and refuses us: .*password"):
            kept.up()
        assert psutil.pid_exists(before or 0)
    finally:
        password.write_text(right)
    assert kept.up().pids["postgres"] == before


def test_a_home_may_have_any_name(new_home: NewHome) -> None:
    """Kafka would put its data elsewhere, and not find it again."""
    home = new_home() / "é, ö = ñ"
    one = Stack(home, ephemeral=True, cache=SHARED, without=("valkey",))
    try:
        ends = one.up()
        client = admin(ends)  # kept: its answers go with it
        for future in client.create_topics([NewTopic("kept", 1, 1)]).values():
            future.result(30)
        data = home / "kafka" / "data"
        eventually(lambda: list(data.glob("kept-0")), 30, "the topic's folder")
        one.stop("kafka")
        client = admin(one.up())
        assert "kept" in client.list_topics(timeout=30).topics
        assert [path.name for path in home.parent.iterdir()] == [home.name]
    finally:
        one.destroy()
    assert not processes_of(home)
