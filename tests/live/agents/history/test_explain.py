"""`soma explain` on a real Kafka: observations, frames, segments, a dead letter, a setting."""

import json
import time
from itertools import count
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from confluent_kafka import TopicPartition
from pydantic import SecretStr

from agents.cli import main
from agents.history.lineage import ABSENT
from agents.settings import ApiSettings, Settings
from tests.live.agents.api.helpers import SECRET, bearer
from tests.live.agents.api.inside import Client
from tests.live.agents.projections.compare import migrated
from tests.live.conftest import WorkerFactory
from tests.live.helpers import PARTITIONS, environment, eventually, produce, read
from topics import codec
from topics.broker import connect, topic_ids
from topics.partition import partition_of

TENANT, N, GLITCH = "t", 60, 30
P = partition_of(TENANT, PARTITIONS)
FRAMES, SEGMENTS = "cog.global.frame", "cog.segments"
OBSERVATIONS, UPDATES = "cog.observations", "cog.predictor.updates"
# Another tenant, whose updates lie among those of the first and name its records as their cause.
OTHER = next(one for k in count() if partition_of(one := f"other{k}", PARTITIONS) == P)
NAMED = GLITCH + 2


def run(settings: Settings, *words: str) -> Result:
    done = CliRunner(env=environment(settings)).invoke(main, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done


def explain(settings: Settings, what: str, *words: str) -> dict[str, Any]:
    done = run(settings, "explain", what, *words, "--json")
    assert done.exit_code == 0, done.stderr
    return dict(json.loads(done.stdout))


def refused(settings: Settings, what: str, *words: str) -> str:
    done = run(settings, "explain", what, *words)
    assert done.exit_code == 1 and not done.stdout, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def observations() -> list[tuple[bytes, bytes]]:
    """Noise about a level that moves; one glitch; junk at the end."""
    rng, now = np.random.default_rng(4), time.time_ns() // 1000
    found = []
    for k in range(N):
        vector = rng.normal(0, 1, 3) + (1000.0 if k == GLITCH else 0.0)
        record = {
            "tenant": TENANT, "domain": ("state", "agent")[k % 2], "ts": now + 100_000 * k,
            "vector": np.float32(vector).tobytes(), "sequence": None,
        }  # fmt: skip
        found.append((TENANT.encode(), codec.encode("observation", record)))
    return [*found, (TENANT.encode(), b"junk")]


def forged(settings: Settings) -> list[str]:
    """Updates of the other tenant's are written; what each names as its observation."""
    own = topic_ids(connect(settings.librdkafka()), [settings.topic(OBSERVATIONS)])
    short = own[settings.topic(OBSERVATIONS)][:8]
    # One that will be there, a dead letter, one that never will, a partition and a topic that
    # aren't there.
    ids = [f"{short}-{P}-{NAMED}", f"{short}-{P}-{N}", f"{short}-{P}-100000", f"{short}-99-0",
           "01234567-0-1"]  # fmt: skip
    update = {
        "tenant": OTHER, "domain": "state", "predictor_type": "own", "error_metric": 1.0,
        "ts": time.time_ns() // 1000,
    }  # fmt: skip
    records = [codec.encode("predictor_update", update | {"observation_id": one}) for one in ids]
    produce(settings, UPDATES, [(OTHER.encode(), one) for one in records])
    return ids


@pytest.mark.timeout(180)
def test_a_stream_is_explained(topics: Settings, worker: WorkerFactory) -> None:
    env = {"SOMA_SEGMENTATION__MAX_DWELL_MS": "2000"}
    worker(SOMA_AGENTS="predictors,integrator,segmentation", **env)
    ids = forged(topics)
    produce(topics, OBSERVATIONS, observations())
    eventually(lambda: len(read(topics, FRAMES)) == N + len(ids), 60, "all frames")
    done = run(topics, "config", "set", TENANT, "fusion", "hedge", "--direct")
    assert done.exit_code == 0, done.stderr
    all_ = [codec.decode(one.value() or b"")[1] for one in read(topics, FRAMES)]
    frames = [one for one in all_ if one["tenant"] == TENANT]
    others = [one for one in all_ if one["tenant"] == OTHER]
    assert [one["observation_id"] for one in others] == ids
    eventually(lambda: read(topics, SEGMENTS), what="a segment")
    frame = frames[GLITCH]

    # The glitch: its error by the law, and all that came of it.
    said = explain(topics, frame["observation_id"])
    assert said["place"] == f"{OBSERVATIONS}/{P}/{GLITCH}" and said["processor"] == "predictors"
    assert said["fate"] == "folded" and said["id"] == frame["observation_id"]
    counts = [{one["entity"]: one["fields"]["n"] for one in said[side]}["state"]
              for side in ("before", "after")]  # fmt: skip
    assert counts == [GLITCH // 2, GLITCH // 2 + 1]
    assert [one["key"] for one in said["changed"]] == [f"{TENANT}/state"]
    steps = {one["what"]: one for one in said["lineage"]}
    assert list(steps) == ["observation", "update", "frame", "segment"]
    error = f"{steps['update']['error_metric']:.4g}"
    assert float(error) > 99
    assert any(one.startswith(f"The error is {error}:") for one in said["words"]), said["words"]
    assert steps["update"]["id"] == frame["frame_id"] and steps["frame"]["domain"] == "state"

    # The frame by its id is what the integrator made of its update.
    said = explain(topics, frame["frame_id"])
    assert said["processor"] == "integrator" and said["tenant"] == TENANT
    (weights,) = [one for one in said["words"] if one.startswith("Published ")]
    for name, weight in frame["weights"].items():
        assert f"{name} {weight:.4g}" in weights
    assert {one["what"]: one["place"] for one in said["lineage"]} == {
        what: one["place"] for what, one in steps.items()
    }
    text = run(topics, "explain", frame["frame_id"]).stdout
    assert "← this one" in text and f"of fixed_share: state was wrong by {error}," in text
    assert "state of t, before → after:" in text and "rounds: 30 → 31" in text

    # The frame by its place is what segmentation made of it; a segment by its id is, too.
    said = explain(topics, steps["frame"]["place"])
    assert said["processor"] == "segmentation"
    assert said["words"][-1].startswith(("No boundary", "Boundary of state"))
    segment = codec.decode(read(topics, SEGMENTS)[0].value() or b"")[1]
    said = explain(topics, segment["segment_id"])
    assert any(f"its segment had {segment['frames']} frames" in one for one in said["words"])
    assert segment["evidence"] in [one.get("evidence") for one in said["lineage"]]

    # A dead letter, and a control record.
    said = explain(topics, f"{OBSERVATIONS}.dlq/{P}/0")
    assert (said["fate"], said["reason"]) == ("dead_letter", "bad_wire_format")
    assert said["letter"]["reason"] == "bad_wire_format" and said["changed"] == []
    told = [one for one in read(topics, UPDATES) if b"fusion" in (one.value() or b"")]
    said = explain(topics, f"{UPDATES}/{P}/{told[0].offset()}")
    assert said["fate"] == "control" and "settings" in said["changed"][0]["fields"]

    by_http(topics, frame["frame_id"], others, frames[NAMED])
    check_errors(topics, frame)


def by_http(
    topics: Settings, frame_id: str, others: list[dict[str, Any]], frame: dict[str, Any]
) -> None:
    """The same, for those who may see it; to others it isn't there."""
    own = {
        "api": ApiSettings(auth="jwt", jwt_secret=SecretStr(SECRET), journal="off", timeout_s=120.0)
    }
    with Client(migrated(topics).model_copy(update=own)) as client:
        said = client.get(f"/explain/{frame_id}", headers=bearer((TENANT,)))
        assert said.status_code == 200, said.text
        here = explain(topics, frame_id)
        assert said.json() == here
        assert client.get(f"/explain/{said.json()['place']}", headers=bearer(("*",))).is_success
        hidden = [
            client.get(f"/explain/{one}", headers=bearer(("other",)) | more)
            for one in (frame_id, "01234567-0-1", "nothing/0/0")
            for more in ({}, {"x-soma-tenant": "other"})
        ]
        assert {one.status_code for one in hidden} == {404}
        assert len({one.json()["detail"] for one in hidden}) == 1
        wrong = client.get(f"/explain/{frame_id}?processor=memory", headers=bearer((TENANT,)))
        assert wrong.status_code == 422 and "not memory" in wrong.json()["detail"]
        not_by_ids(topics, client, others, frame)


def not_by_ids(
    topics: Settings, client: Client, others: list[dict[str, Any]], frame: dict[str, Any]
) -> None:
    """Whoever names another's record as the cause of its own sees none of it, nor whether it is
    there, nor is seen by the other. To operators all is told.
    """
    told = [client.get(f"/explain/{one['frame_id']}", headers=bearer((OTHER,))) for one in others]
    assert {one.status_code for one in told} == {200}, [one.text for one in told]
    causes = [one.json()["lineage"][0] for one in told]
    assert [one.pop("id") for one in causes] == [one["observation_id"] for one in others]
    assert causes == [{"what": "observation", "place": None, "note": ABSENT}] * len(others)

    victim = frame["observation_id"]
    said = client.get(f"/explain/{victim}", headers=bearer((TENANT,)))
    steps = {one["what"]: one for one in said.json()["lineage"]}
    assert steps["update"]["id"] == frame["frame_id"], "not the other's, which came before"
    seen = [one for one in (OTHER, *(one["frame_id"] for one in others)) if f'"{one}"' in said.text]
    assert seen == []

    first = others[0]["frame_id"]
    step = explain(topics, first)["lineage"][0]
    assert step["note"] == f"of another tenant: {TENANT}"
    # Of the victim's observation: its own update, frame and segment, and who else names it.
    _, foreign, update, *rest = explain(topics, victim)["lineage"]
    assert (foreign["id"], foreign["note"]) == (first, f"of another tenant: {OTHER}")
    assert (update["id"], update["note"]) == (frame["frame_id"], "")
    assert [one["what"] for one in rest][:1] == ["frame"] and rest[0]["note"] == ""
    assert f"of another tenant: {OTHER}" in run(topics, "explain", victim).stdout
    assert step["place"] == f"{OBSERVATIONS}/{P}/{NAMED}" and "vector" in step
    everyone = client.get(f"/explain/{first}", headers=bearer(("*",))).json()
    assert everyone["lineage"][0] == step
    assert explain(topics, first, "--tenant", OTHER) == told[0].json()
    assert f"{TENANT} has no record" in refused(topics, first, "--tenant", TENANT)
    absent, nowhere, unknown = (
        explain(topics, one["frame_id"])["lineage"][0]["note"] for one in others[2:]
    )
    assert "the log ends at" in absent and "has no such partition" in nowhere
    assert "no topic here has an id that begins so" in unknown


def check_errors(topics: Settings, frame: dict[str, Any]) -> None:
    """What isn't there is named in one line."""
    assert "is neither an id" in refused(topics, "frame")
    assert "no topic here has an id that begins so" in refused(topics, "01234567-0-1")
    admin = connect(topics.librdkafka())
    own = topic_ids(admin, [topics.topic(OBSERVATIONS)])
    short = own[topics.topic(OBSERVATIONS)][:8]
    assert "there is no such record, the log ends at" in refused(topics, f"{short}-{P}-100000")
    assert "there is no letter at" in refused(topics, f"{OBSERVATIONS}.dlq/{P}/77")
    assert "has no such segment" in refused(topics, f"{frame['frame_id']}:state:hmm")
    assert "there is no topic" in refused(topics, "nothing/0/0")
    said = refused(topics, frame["observation_id"], "--processor", "integrator")
    assert "predictors reads cog.observations, not integrator" in said
    place = TopicPartition(topics.topic(OBSERVATIONS), P, GLITCH + 1)
    for future in admin.delete_records([place]).values():
        future.result(20)
    said = refused(topics, frame["observation_id"])
    assert f"{OBSERVATIONS}/{P}/{GLITCH} is gone: the topic's retention removed all" in said
    # Its frame can be explained all the same; where it came from is named as gone.
    steps = explain(topics, frame["frame_id"])["lineage"]
    assert steps[0]["what"] == "observation" and "is gone" in steps[0]["note"]
