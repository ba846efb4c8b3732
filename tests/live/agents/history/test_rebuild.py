"""Live = rebuilt: states folded anew from the log are those of workers that were killed over it."""

import io
import json
import signal
import time
from collections.abc import Mapping
from typing import Any

import fastavro
import numpy as np
import pytest

from agents.settings import Settings
from ops import examples
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, Worker, environment, eventually, produce, read, soma
from tests.unit.agents.engine.echo import event
from topics import codec
from topics.partition import partition_of

PLUGINS = {"SOMA_PLUGINS": "ops.examples,tests.live.laws"}
COLUMNAR = ("predictors", "integrator", "segmentation")
ROWS = ("counting", "pauses")
RUN = {**PLUGINS, "SOMA_AGENTS": ",".join((*COLUMNAR, *ROWS, "control"))}
TENANTS = tuple(f"t{k}" for k in range(12))
DOMAINS = ("state", "agent")


@pytest.fixture
def env(settings: Settings) -> dict[str, str]:
    """Of commands, with the topics of the examples and of the laws that fail made too."""
    found = environment(settings, **PLUGINS)
    made = soma("topics", "apply", env=found)
    assert made.returncode == 0, made.stderr
    return found


def observations(seed: int, n: int) -> list[tuple[bytes, bytes]]:
    """n observations of each tenant and domain, of now; every 50th isn't one."""
    rng = np.random.default_rng(seed)
    now = time.time_ns() // 1000
    found = []
    for k in range(n):
        for tenant in TENANTS:
            for domain in DOMAINS:
                level = 5.0 if (k // 20) % 2 else 0.0
                vector = np.float32(rng.normal(level, 1.0, 3)).tobytes()
                record = {
                    "tenant": tenant, "domain": domain, "ts": now + 1000 * k, "vector": vector,
                    "sequence": None,
                }  # fmt: skip
                found.append((tenant.encode(), codec.encode("observation", record)))
                if len(found) % 50 == 0:
                    found.append((tenant.encode(), b"\0\0\0\0\1junk"))
    return found


def set_value(env: Mapping[str, str], *words: str) -> None:
    done = soma("config", "set", *words, env=env)
    assert done.returncode == 0, done.stderr


def digest(env: Mapping[str, str], *words: str, status: int = 0) -> dict[str, Any]:
    """What `soma digest … --json` says."""
    done = soma("digest", *words, "--json", env=env, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return dict(json.loads(done.stdout)) if status == 0 or done.stdout else {"error": done.stderr}


def folded(settings: Settings, processor: str) -> int:
    """The next offsets of all partitions together."""
    at: dict[int, int] = {}
    for message in read(settings, f"soma.{processor}.state"):
        if message.key() == b"@position":
            row = codec.decode(message.value() or b"")[1]
            at[message.partition() or 0] = row["next_offset"]
    return sum(at.values())


def feed(
    settings: Settings, env: Mapping[str, str], worker: WorkerFactory, *told: Mapping[str, str]
) -> Worker:
    """Records and settings, while one worker after another is killed; the last one is left."""
    one = worker(settings, **RUN, **told[0])
    for k, more in enumerate(told):
        if k:
            one = worker(settings, **RUN, **more)
        produce(settings, "cog.observations", observations(k, 40))
        set_value(env, f"t{k}", "fusion", "hedge")
        set_value(env, "*", "min_dwell_ms", str(100 * (k + 1)), "--processor", "integrator")
        set_value(env, f"t{k}", "alpha", "1.5", "--processor", "predictors")
        before = folded(settings, "counting")
        produce(settings, "cog.observations", observations(100 + k, 40))
        set_value(env, f"t{k}", "margin", "0.1", "--no-wait")  # what follows is killed or not
        if k + 1 < len(told):
            eventually(lambda b=before: folded(settings, "counting") > b, what="some of it")  # type: ignore[misc]
            one.signal(signal.SIGKILL)
            one.process.wait(10)
    return one


@pytest.mark.proof
@pytest.mark.timeout(600)
def test_states_folded_anew_are_those_of_workers_that_were_killed(
    settings: Settings, env: dict[str, str], worker: WorkerFactory
) -> None:
    other = {"SOMA_INTEGRATOR__ALPHA": "0.7", "SOMA_PREDICTORS__ALPHA": "1.2"}
    other |= {"SOMA_COUNTING__EVERY": "3", "SOMA_SEGMENTATION__CPD": "bocpd"}
    one = feed(settings, env, worker, {}, other, other)
    set_value(env, "*", "silence_s", "1", "--processor", "pauses")
    inputs = 6 * len(observations(0, 40)) + 3 + 4  # with those of the settings that go there
    eventually(lambda: folded(settings, "counting") >= inputs, 60, "all observations")
    each_acts_once(settings)
    for processor in (*COLUMNAR, *ROWS):  # the worker goes on: ticks come meanwhile
        said = digest(env, processor, "--rebuild", "--outputs")
        assert said["equal"] and said["rows"] >= len(TENANTS), said
        parts = [part for part in said["partitions"] if part["rebuilt"]]
        assert len(parts) == settings.topics_partitions
        for part in parts:
            assert part["rebuilt"]["digest"] == part["digest"]
            assert part["rebuilt"]["from"] == "the whole log"
            # The second deployment is an epoch of its own, but for whom it is the same.
            assert part["position"]["epoch"] == (1 if processor == "pauses" else 2)
        assert sum(part["rebuilt"]["records"] for part in parts) > 3000
        outputs = [one for part in parts for one in part["rebuilt"]["outputs"].values()]
        assert all(one["given"] == one["published"] > 0 for one in outputs)
        assert outputs or processor not in COLUMNAR
    said = digest(env, "control", "--rebuild", "--outputs")
    assert said["equal"] and said["rows"] >= 4, said
    assert one.stop() == 0

    # A row that a defect, or a hand, has changed is found and named, with the field.
    before = digest(env, "counting", "--each")
    rows = {m.key(): m.value() for m in read(settings, "soma.counting.state")}
    value = rows[b"t3"] or b""
    row = decoded(value)
    assert before["partitions"][0]["tenants"].keys() <= {*TENANTS, "*"}
    tampered = encoded(row | {"total": row["total"] + 1}, value)
    produce(settings, "soma.counting.state", [(b"t3", tampered)], partition_of("t3", PARTITIONS))
    said = digest(env, "counting", "--rebuild", status=1)
    (bad,) = [row for part in said["partitions"] for row in part["rebuilt"]["differing"]]
    total = {"live": row["total"] + 1, "rebuilt": row["total"]}
    assert bad == {"key": "t3", "fields": {"total": total}}
    assert digest(env, "counting")["digest"] != before["digest"]
    assert digest(env, "counting", "--tenant", "t4", "--rebuild")["equal"]
    done = soma("digest", "counting", "--tenant", "t3", "--rebuild", env=env)
    assert done.returncode == 1 and "1 row differs" in done.stdout
    assert f"  total: {row['total'] + 1} live, {row['total']} rebuilt" in done.stdout


def settings_in(settings: Settings) -> list[tuple[str | None, int | None, str]]:
    """Where control records of settings stand, and which change each comes from."""
    return [
        (m.topic(), m.partition(), codec.decode(m.value() or b"")[1].get("update", ""))
        for topic in ("cog.observations", "cog.predictor.updates")
        for m in read(settings, topic)
        if (m.value() or b"")[: codec.HEADER] in codec.headers("control_setting")
    ]  # fmt: skip


def each_acts_once(settings: Settings) -> None:
    """Each change of a setting is in its processor's input once; that of all once a partition."""
    updates = [codec.decode(m.value() or b"")[1] for m in read(settings, "cog.config.updates")]
    wanted = sum(settings.topics_partitions if one["tenant"] == "*" else 1 for one in updates)
    assert len(updates) == 13
    eventually(lambda: len(settings_in(settings)) >= wanted, what="all control records")
    found = settings_in(settings)
    assert len(found) == len(set(found)) == wanted


def schema_of(name: str) -> Any:
    """A schema of the examples, which this process doesn't know."""
    assert examples.PLUGIN.schemas is not None
    text = (examples.PLUGIN.schemas / f"{name}.v1.avsc").read_text()
    return fastavro.parse_schema(json.loads(text))


def decoded(value: bytes) -> dict[str, Any]:
    found: Any = fastavro.schemaless_reader(
        io.BytesIO(value[5:]), schema_of("counting_state"), None
    )
    return dict(found)


def encoded(row: Mapping[str, Any], like: bytes) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema_of("counting_state"), row)
    return like[:5] + out.getvalue()


def test_a_record_that_was_passed_over_is_so_when_folded_anew(
    settings: Settings, env: dict[str, str], worker: WorkerFactory
) -> None:
    one = worker(settings, ready=False, **PLUGINS, SOMA_AGENTS="sick")
    now = time.time_ns() // 1000
    texts = ["{}", "{}", '{"raise": "sick"}', "{}"]
    told = [(b"a", codec.encode("memory_event", event("a", text, now))) for text in texts]
    produce(settings, "memory.events", told)
    place = f"{settings.topic('memory.events')}/{partition_of('a', PARTITIONS)}/2"
    skip = ("skip", place, "--processor", "sick", "--reason", "bad")
    eventually(lambda: soma(*skip, env=env).returncode == 0, 60, "the record to be next")
    eventually(lambda: folded(settings, "sick") >= 4, what="the record behind")
    said = digest(env, "sick", "--tenant", "a", "--rebuild")
    assert said["equal"] and said["rows"] == 1
    assert one.stop() == 0


def test_what_isnt_there_is_named_in_a_line(settings: Settings, env: dict[str, str]) -> None:
    for words, text in (
        (("nobody",), "There is no processor 'nobody'; there are canary, control, "),
        (("integrator", "--partition", "7"), f"has the partitions 0 to {PARTITIONS - 1}, not 7."),
        (("integrator", "--outputs"), "--outputs is of --rebuild"),
        (("integrator", "--tenant", "t1", "--partition", "9"), "t1 lives in partition "),
    ):
        done = soma("digest", *words, env=env)
        assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr
    done = soma("digest", "integrator", "--rebuild", env=env)
    assert done.returncode == 0 and done.stdout.count("nothing folded yet") == PARTITIONS
    done = soma("digest", "integrator", "--tenant", "t1", env=env)
    assert done.returncode == 0 and "has no state of the tenant t1" in done.stderr
