"""Settings of tenants: said to control, brought in band, shown, and taken back."""

import json
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result

from agents.cli import main
from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec
from topics.partition import partition_of

SOURCE, FRAMES, UPDATES = "cog.predictor.updates", "cog.global.frame", "cog.config.updates"
PARTITIONS = 4
Env = Mapping[str, str]


def update(tenant: str, k: int) -> bytes:
    record = {
        "tenant": tenant,
        "domain": "state",
        "predictor_type": "heat",
        "error_metric": 0.5,
        "ts": 1_769_860_800_000_000 + 1000 * k,
    }
    return codec.encode(
        "predictor_update",
        codec.from_json(
            "predictor_update",
            record | {"prediction_latency_ms": 1.0, "vector_dim": 2},
        ),
    )


def run(env: Env, *words: str) -> Result:
    """`soma config …`, in this process: there are many of them."""
    done = CliRunner(env=env).invoke(main, ["config", *words])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done


def config(env: Env, *words: str) -> dict[str, Any]:
    """What a verb of `soma config` says."""
    done = run(env, *words, "--json")
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(env: Env, *words: str) -> str:
    done = run(env, *words)
    assert done.exit_code == 1, done.stdout
    return done.stderr


def in_force(env: Env, tenant: str, *words: str) -> dict[str, Any]:
    """Value and source of each setting that isn't at its default, in all processors."""
    found = config(env, "get", tenant, *words)["processors"]
    return {
        f"{name}.{setting}": (one["value"], one["source"])
        for name, values in found.items() for setting, one in values.items()
    }  # fmt: skip


def records(settings: Settings, topic: str) -> list[tuple[int, int, str, dict[str, Any]]]:
    """Partition, offset, schema and record of all that stands in a topic."""
    return [
        (m.partition() or 0, m.offset() or 0, *codec.decode(m.value() or b""))
        for m in read(settings, topic)
    ]


def versions(settings: Settings) -> dict[str, list[int]]:
    """config_version of each tenant's frames, in their order."""
    found: dict[str, list[int]] = {}
    for *_, record in records(settings, FRAMES):
        if "config_version" in record:
            found.setdefault(record["tenant"], []).append(record["config_version"])
    return found


def test_where_nobody_runs_control_the_ways_on_are_named(topics: Settings) -> None:
    env = environment(topics)
    said = refused(env, "set", "cpu", "fusion", "hedge")
    assert "No worker runs control" in said and "nothing is written" in said
    assert "soma worker" in said and "--no-wait" in said and "--direct" in said
    assert read(topics, UPDATES) == []
    config(env, "set", "cpu", "fusion", "hedge", "--no-wait")
    config(env, "set", "cpu", "fusion", "hedge", "--direct")
    assert config(env, "set", "*", "margin", "0.2", "--direct")["partitions"] == [0, 1, 2, 3]
    ((place, _, name, record),) = records(topics, UPDATES)
    assert (place, name) == (partition_of("cpu", PARTITIONS), "config_update")
    assert record["processor"] == "integrator"
    found = [(p, r) for p, _, name, r in records(topics, SOURCE) if name == "control_setting"]
    own = [(p, r) for p, r in found if r["tenant"] == "cpu"]
    assert [(p, r["setting"], r["value"]) for p, r in own] == [(place, "fusion", "hedge")]
    assert own[0][1]["author"] and own[0][1]["version"] == 0
    assert sorted(p for p, r in found if r["tenant"] == "*") == [0, 1, 2, 3]
    assert in_force(env, "cpu") == {}
    assert "has made no change" in run(env, "history", "cpu").stderr


def test_a_change_is_checked_brought_where_it_acts_and_taken_back(
    topics: Settings, worker: WorkerFactory
) -> None:
    env = environment(topics)
    one = worker(SOMA_AGENTS="integrator,segmentation,control", SOMA_INTEGRATOR__MARGIN="0.1")
    assert "soma worker: the kernels are there, after" in one.tail(200)
    deployment = {"integrator.margin": (0.1, "deployment")}

    # It acts at one offset: the frames before it have no version, those behind it have this.
    produce(topics, SOURCE, [(b"cpu", update("cpu", k)) for k in range(3)])
    first = config(env, "set", "cpu", "fusion", "hedge")
    produce(topics, SOURCE, [(b"cpu", update("cpu", k)) for k in range(3, 5)])
    eventually(lambda: versions(topics)["cpu"] == [0, 0, 0, first["version"], first["version"]])
    ((home, offset),) = first["offsets"].items()
    assert (int(home), offset) == (partition_of("cpu", PARTITIONS), 3)
    whole = config(env, "set", "*", "alpha", "1.5", "--processor", "integrator")
    assert sorted(whole["offsets"], key=int) == ["0", "1", "2", "3"]
    assert whole["version"] > first["version"]
    domain = config(env, "set", "cpu", "cpd@state", "off")
    produce(topics, SOURCE, [(b"cpu", update("cpu", 9)), (b"gpu", update("gpu", 9))])
    eventually(lambda: versions(topics).get("gpu") == [whole["version"]])
    eventually(lambda: versions(topics)["cpu"][-1] == whole["version"])

    # What acts, whose it is, and which version it has; of a tenant that was never seen, too.
    own = {"integrator.fusion": ("hedge", "tenant"), "segmentation.cpd@state": ("off", "tenant")}
    left = deployment | {"integrator.alpha": (1.5, "*")}
    eventually(lambda: in_force(env, "cpu") == left | own)
    assert in_force(env, "nobody") == left
    everything = in_force(env, "cpu", "--processor", "integrator", "--all")
    assert everything["integrator.share"] == (0.001, "default")
    shown = run(env, "get", "cpu").stdout.splitlines()
    assert shown == [
        f"integrator: alpha = 1.5  (all, version {whole['version']})",
        f"integrator: fusion = hedge  (own, version {first['version']})",
        "integrator: margin = 0.1  (the deployment's)",
        f"segmentation: cpd@state = off  (own, version {domain['version']})",
    ]
    config(env, "set", "never-seen", "share", "0.01")

    # What an operator's own client says is checked as well; the audit has why it is refused.
    wrong = {
        "magic": {"setting": "fusion", "value": "magic"},
        "'colour'": {"setting": "colour", "value": "red"},
        "not '7'": {"setting": "share", "value": "7"},
        "by now, not 5": {"setting": "fusion", "value": "hedge", "expected_version": 5},
        "bad_json": {"setting": "fusion"},
    }
    for said in wrong.values():
        text = json.dumps({"tenant": "cpu", "author": "eve", "ts": "2026-01-31T12:00:00Z"} | said)
        produce(topics, UPDATES, [(b"cpu", text.encode())])
    events = eventually(lambda: len(refusals(topics)) == len(wrong) and refusals(topics))
    for word in wrong:
        assert any(word in one["detail"] for one in events), (word, events)
    assert {one["actor"] for one in events} == {"eve", ""}
    assert in_force(env, "cpu") == left | own
    for topic in (SOURCE, FRAMES):
        assert read(topics, f"{topic}.dlq") == []
    history_and_back(topics, env, first["version"])
    assert one.stop() == 0


def own_of(values: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in values.items() if one[1] == "tenant"}


def refusals(settings: Settings) -> list[dict[str, Any]]:
    found = [record for *_, record in records(settings, "soma.audit")]
    return [one for one in found if one["action"] == "config.refused"]


def history_and_back(settings: Settings, env: Env, first: int) -> None:
    """What was changed, what differs, and all of it back at once."""
    config(env, "set", "cpu", "fusion", "softmax")
    changes = config(env, "history", "cpu")["changes"]
    assert [(one["setting"], one["was"], one["value"]) for one in changes] == [
        ("integrator.fusion", "", "hedge"),
        ("integrator.alpha", "", "1.5"),
        ("segmentation.cpd@state", "", "off"),
        ("integrator.fusion", "hedge", "softmax"),
    ]
    assert [one["tenant"] for one in changes] == ["cpu", "*", "cpu", "cpu"]
    assert len(run(env, "history", "cpu").stdout.splitlines()) == 4
    differs = config(env, "diff", "cpu", str(first))["settings"]
    assert differs == {
        "integrator.fusion": {"was": "hedge", "is": "softmax"},
        "segmentation.cpd@state": {"was": "", "is": "off"},
    }
    dry = run(env, "rollback", "cpu", "--to", str(first), "--dry-run")
    assert dry.stdout.splitlines() == [
        "integrator.fusion would be hedge", "segmentation.cpd@state would be as for all",
    ]  # fmt: skip
    done = run(env, "rollback", "cpu", "--to", str(first))
    assert done.exit_code == 0, done.stderr
    assert "integrator.fusion = hedge, version " in done.stderr
    assert config(env, "diff", "cpu", str(first))["settings"] == {}
    back = {"integrator.fusion": ("hedge", "tenant")}
    eventually(lambda: own_of(in_force(env, "cpu")) == back)
    assert len(config(env, "history", "cpu")["changes"]) == 6


def test_settings_of_a_row_processor_are_set_and_shown_likewise(
    topics: Settings, worker: WorkerFactory
) -> None:
    brought = {"SOMA_PLUGINS": "ops.examples"}
    env = environment(topics, **brought)
    assert soma("topics", "apply", env=env).returncode == 0
    refused = soma("config", "set", "cpu", "every", "0", env=env)
    assert refused.returncode == 1
    assert "every is a whole number from 1 to 1000000, not '0'" in refused.stderr
    worker(SOMA_AGENTS="counting,control", **brought)
    assert soma("config", "set", "*", "every", "2", env=env).returncode == 0
    assert soma("config", "set", "cpu", "every", "3", env=env).returncode == 0

    def got(tenant: str) -> object:
        words = ("config", "get", tenant, "--processor", "counting", "--json")
        found = soma(*words, env=env)
        return json.loads(found.stdout)["processors"] if found.returncode == 0 else found.stderr

    every = {"value": 3, "of": "cpu", "source": "tenant"}
    eventually(lambda: without_version(got("cpu")) == {"counting": {"every": every}})
    every = {"value": 2, "of": "*", "source": "*"}
    eventually(lambda: without_version(got("disk")) == {"counting": {"every": every}})


def without_version(said: Any) -> Any:
    """Its value is the moment's."""
    assert all(one.pop("version") > 0 for one in said.get("counting", {}).values()), said
    return said
