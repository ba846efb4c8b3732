"""Settings of a tenant: written in band, shown from the processor's state."""

import json

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec
from topics.partition import partition_of

SOURCE = "cog.predictor.updates"


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


def test_a_setting_goes_to_the_tenants_partition_and_of_all_to_every_one(topics: Settings) -> None:
    env = environment(topics)
    assert soma("config", "set", "cpu", "fusion", "hedge", env=env).returncode == 0
    done = soma("config", "set", "*", "margin", "0.2", "--json", env=env)
    assert json.loads(done.stdout)["partitions"] == [0, 1, 2, 3]
    found = [(m.partition(), *codec.decode(m.value() or b"")) for m in read(topics, SOURCE)]
    assert {name for _, name, _ in found} == {"control_setting"}
    own = [(p, r) for p, _, r in found if r["tenant"] == "cpu"]
    assert [(p, r["setting"], r["value"]) for p, r in own] == [
        (partition_of("cpu", 4), "fusion", "hedge")
    ]
    assert own[0][1]["author"]
    assert sorted(p for p, _, r in found if r["tenant"] == "*") == [0, 1, 2, 3]


def test_what_was_set_is_shown_once_the_worker_has_taken_it(
    topics: Settings, worker: WorkerFactory
) -> None:
    env = environment(topics)
    assert soma("config", "get", "cpu", env=env).stdout == ""
    words = ("config", "set", "*", "alpha", "1.5", "--processor", "integrator")
    assert soma(*words, env=env).returncode == 0
    soma("config", "set", "cpu", "fusion", "hedge", env=env)
    assert soma("config", "set", "cpu", "cpd@state", "off", env=env).returncode == 0
    one = worker(SOMA_AGENTS="integrator,segmentation")
    assert "soma worker: the kernels are there, after" in one.tail(200)
    produce(topics, SOURCE, [(b"cpu", update("cpu", k)) for k in range(3)])

    def got() -> dict[str, object]:
        text = soma("config", "get", "cpu", "--json", env=env).stdout
        values: dict[str, dict[str, object]] = json.loads(text)["processors"]
        assert list(values) == ["integrator", "predictors", "replay", "segmentation", "sleep"]
        assert not values["predictors"] and not values["replay"]
        return values["integrator"] | values["segmentation"]

    left = {"alpha": {"value": 1.5, "of": "*"}, "cpd@state": {"value": "off", "of": "cpu"}}
    eventually(lambda: got() == left | {"fusion": {"value": "hedge", "of": "cpu"}})
    soma("config", "set", "cpu", "fusion", env=env)
    eventually(lambda: got() == left)
    shown = soma("config", "get", "cpu", env=env).stdout.splitlines()
    assert shown == ["integrator: alpha = 1.5  (all)", "segmentation: cpd@state = off  (own)"]
    letters = read(topics, f"{SOURCE}.dlq")
    assert letters == []


def test_settings_of_a_row_processor_are_set_and_shown_likewise(
    topics: Settings, worker: WorkerFactory
) -> None:
    brought = {"SOMA_PLUGINS": "ops.examples"}
    env = environment(topics, **brought)
    assert soma("topics", "apply", env=env).returncode == 0
    refused = soma("config", "set", "cpu", "every", "0", env=env)
    assert refused.returncode == 1
    assert "every is a whole number from 1 to 1000000, not '0'" in refused.stderr
    assert soma("config", "set", "*", "every", "2", env=env).returncode == 0
    assert soma("config", "set", "cpu", "every", "3", env=env).returncode == 0
    worker(SOMA_AGENTS="counting", **brought)

    def got(tenant: str) -> object:
        words = ("config", "get", tenant, "--processor", "counting", "--json")
        found = soma(*words, env=env)
        return json.loads(found.stdout)["processors"] if found.returncode == 0 else found.stderr

    eventually(lambda: got("cpu") == {"counting": {"every": {"value": 3, "of": "cpu"}}})
    assert got("disk") == {"counting": {"every": {"value": 2, "of": "*"}}}
