"""A what-if says what a worker under that setting does: the same records, sent for another tenant
that has the setting, are folded live, and the numbers are reckoned again from both tenants' frames.
"""

import json
import math
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from agents.settings import Settings
from tests.live.agents.replay.helpers import await_state, say, statuses
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma, topics_of
from topics import codec

MADE = topics_of("replay", "integrator")

UPDATES, FRAMES = "cog.predictor.updates", "cog.global.frame"
N, SPLIT, GLITCH = 600, 240, range(330, 400)
SET = "integrator.fusion=hedge"
BASE: dict[str, Any] = {"mode": "what-if", "source": "", "settings": [SET], "tenants": ["t"]}
OWN = ("frame_id", "tenant", "config_version")  # of each tenant, whatever is folded


def updates(tenant: str, begin: int) -> list[tuple[bytes, bytes]]:
    """Three domains in turn; one of them goes wild for a while."""
    rng = np.random.default_rng(8)
    found = []
    for k in range(N):
        domain = "abc"[k % 3]
        error = float(rng.gamma(1.0, 0.2 + 0.1 * (k % 3))) + 5.0 * (k in GLITCH and domain == "a")
        record = {
            "tenant": tenant, "domain": domain, "predictor_type": "heat", "error_metric": error,
            "prediction_latency_ms": 0.0, "model_version": "1.0", "vector_dim": 1,
            "confidence": 0.5, "observation_id": "", "ts": begin + 1000 * k,
        }  # fmt: skip
        found.append((tenant.encode(), codec.encode("predictor_update", record)))
    return found


def setting(tenant: str, name: str, value: str) -> tuple[bytes, bytes]:
    record = {
        "tenant": tenant, "setting": name, "value": value, "author": "test", "ts": 0,
        "processor": "integrator",
    }  # fmt: skip
    return tenant.encode(), codec.encode("control_setting", record)


def frames(settings: Settings, tenant: str) -> list[dict[str, Any]]:
    """A tenant's frames, in their order."""
    mine = [one.value() or b"" for one in read(settings, FRAMES) if one.key() == tenant.encode()]
    return [codec.decode(value)[1] for value in mine]


def reckoned(some: list[dict[str, Any]]) -> dict[str, Any]:
    """What frames come to, by the definitions; alpha is 2, and no domain is ever stale."""
    losses = [{d: 1 - math.exp(-2 * e) for d, e in one["errors"].items()} for one in some]
    total = sum(losses[0].values()) / len(losses[0])
    for before, now in zip(some, losses[1:], strict=False):
        total += sum(before["weights"][d] * loss for d, loss in now.items())
    best = min(sum(one[d] for one in losses) for d in "abc")
    return {
        "frames": len(some),
        "leader_changes": sum(a["leader"] != b["leader"] for a, b in pairwise(some)),
        "mean_loss": total / len(some), "regret": total - best,
        "mean_entropy": sum(one["entropy"] for one in some) / len(some),
    }  # fmt: skip


@pytest.fixture
def split(topics: Settings, worker: WorkerFactory) -> tuple[int, int]:
    """A glitch is published and folded, for t as it is and for u with the setting from SPLIT on;
    t's partition, and where its record SPLIT lies.
    """
    worker(SOMA_AGENTS="integrator,replay")
    begin = time.time_ns() // 1000
    mine, theirs = updates("t", begin), updates("u", begin)
    for tenant, some in (("t", mine), ("u", theirs)):
        own = [setting("t", "fusion", "softmax")] if tenant == "t" else []
        both = [setting(tenant, "margin", "0.02"), *some[:SPLIT]]
        both += [setting("u", "fusion", "hedge")] if tenant == "u" else []
        produce(topics, UPDATES, [*both, *some[SPLIT:500], *own, *some[500:]])
    eventually(lambda: len(read(topics, FRAMES)) == 2 * N, 60.0, "all is folded")
    places = [
        (one.partition() or 0, one.offset() or 0)
        for one in read(topics, UPDATES) if one.key() == b"t"
    ]  # fmt: skip
    return places[SPLIT + 1]


def test_it_says_what_a_worker_under_that_setting_does(
    topics: Settings, split: tuple[int, int]
) -> None:
    partition, first = split
    env, place = environment(topics), f"{partition}:{first}"
    words = ("replay", "start", "--shadow", "--set", SET, "--tenant", "t")
    done = soma(*words, "--from", place, "--id", "one", "--json", env=env)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["plan"]["result"]
    was, would = frames(topics, "t")[SPLIT:], frames(topics, "u")[SPLIT:]
    unlike = [
        {name for name in a if name not in OWN and repr(a[name]) != repr(b[name])}
        for a, b in zip(was, would, strict=True)
    ]
    outputs, figures = found["outputs"][FRAMES], found["figures"][FRAMES]
    assert found["records"] == outputs["was"] == outputs["would"] == outputs["published"] == 360
    assert outputs["differing"] == sum(map(bool, unlike)) > 200
    for name, count in outputs["fields"].items():
        assert count == sum(name in one for one in unlike), name
    for side, some in (("was", was), ("would", would)):
        wanted = reckoned(some)
        assert {name: figures[side][name] for name in wanted} == pytest.approx(wanted, abs=1e-6)
        led = {name: one["frames"] for name, one in figures[side]["led"].items()}
        assert led == {d: n for d in "abc" if (n := sum(f["leader"] == d for f in some))}
    assert figures["was"]["leader_changes"] > 0 and not found["notes"]
    shown = soma("replay", "status", "one", env=env).stdout
    assert "as it was, all 360 are as published" in shown and "would" in shown
    assert f"{outputs['differing']} differ" in shown
    refusals(topics, env, place)
    rehearsed(topics, place)
    paused(topics)
    everybody(topics, env)
    gone(topics, partition, first)


def rehearsed(topics: Settings, place: str) -> None:
    """A dry run counts what would be folded: records, settings, from the beginning on."""
    say(topics, "dry", **BASE, since=place, dry_run=True)
    say(topics, "dry-all", **(BASE | {"tenants": []}), dry_run=True)
    records, own = read(topics, UPDATES), {"t": N + 2, "u": N + 2}
    for id_, whose in (("dry", ("t",)), ("dry-all", ("t", "u"))):
        done, mine = await_state(topics, id_, "done"), [name.encode() for name in whose]
        some = [one for one in records if one.key() in mine]
        size = sum(len(one.key() or b"") + len(one.value() or b"") for one in some)
        assert (done["sent"], done["sent_bytes"]) == (len(some), size) and done["read"] > 0
        assert done["done"] == done["total"] > 0 and not done["message"]
        plan, times = json.loads(done["plan"]), [one.timestamp()[1] for one in some]
        assert plan["tenants"] == {name: own[name] for name in whose} and "result" not in plan
        assert plan["times"] == [min(times), max(times)]


def refusals(topics: Settings, env: dict[str, str], place: str) -> None:
    for id_, (more, _) in REFUSED.items():
        say(topics, id_, **(BASE | more))
    say(topics, "empty", **BASE, since=place, until=place)
    for id_, (_, text) in REFUSED.items():
        state = "failed" if id_ == "nobody" else "refused"
        assert text in await_state(topics, id_, state)["message"]
    assert "reversed or empty" in await_state(topics, "empty", "refused")["message"]
    done = soma("replay", "start", "what-if", "--set", SET, "--shadow", "try", env=env)
    assert done.returncode == 1 and "--shadow takes no name here" in done.stderr


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nobody": ({"tenants": ["nobody"]}, "nothing of nobody lies in the range"),
    "future": ({"until": "2100-01-01T00:00:00Z"}, "until is in the future"),
    "setting": ({"settings": ["integrator.fusoin=hedge"]}, "no setting 'fusoin'; there are fusion"),
    "value": ({"settings": ["integrator.fusion=wedge"]}, "fusion is one of hedge, fixed_share,"),
    "processor": ({"settings": ["fuser.fusion=hedge"]}, "there is no processor 'fuser'; there are"),
    "beyond": ({"until": "999999"}, "offset 999999 lies beyond the end"),
}


def paused(topics: Settings) -> None:
    """It begins anew behind a pause, and says how far it is all the same."""
    say(topics, "slow", **BASE, rate_limit=400)
    eventually(lambda: statuses(topics)["slow"][-1:] and statuses(topics)["slow"][-1]["done"] > 100)
    say(topics, "slow", "pause")
    assert await_state(topics, "slow", "paused")["done"] > 0
    say(topics, "slow", "resume")
    done = await_state(topics, "slow", "done")
    assert done["done"] == done["total"] > N and done["read"] > done["total"]
    (found,) = json.loads(done["plan"])["result"]
    assert found["records"] == found["outputs"][FRAMES]["published"] == N


def everybody(topics: Settings, env: dict[str, str]) -> None:
    """Of all tenants it is what each comes to, together."""
    say(topics, "each", **(BASE | {"tenants": ["t", "u"]}))
    done = soma("replay", "start", "what-if", "--set", SET, "--id", "all", "--json", env=env)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["plan"]["result"]
    each = json.loads(await_state(topics, "each", "done")["plan"])["result"]
    assert (found["tenant"], found["tenants"], found["records"]) == ("*", 2, 2 * N)
    for name in ("was", "would", "equal", "differing", "published"):
        parts = [one["outputs"][FRAMES][name] for one in each]
        assert found["outputs"][FRAMES][name] == sum(parts), name
    assert found["outputs"][FRAMES]["published"] == 2 * N and not found["notes"]
    for side in ("was", "would"):
        for name in ("frames", "leader_changes", "regret"):
            parts = [one["figures"][FRAMES][side][name] for one in each]
            assert found["figures"][FRAMES][side][name] == pytest.approx(sum(parts), abs=1e-6)
    counts = ("differing", "only_was", "only_would")
    unlike = {
        one["tenant"]: sum(of[name] for of in one["outputs"].values() for name in counts)
        for one in each
    }
    most = [(one["tenant"], one["unlike"]) for one in found["most"]]
    assert most == sorted(unlike.items(), key=lambda one: -one[1]) and len(most) == 2
    shown = soma("replay", "status", "all", env=env).stdout
    assert "all 2 tenants together, 1,200 records" in shown
    assert f"tenants that differ most\n      {most[0][0]}: {most[0][1]:,} outputs; " in shown


def gone(topics: Settings, partition: int, first: int) -> None:
    """What isn't whole is refused by its name, or taken as it is."""
    admin = AdminClient(topics.librdkafka())
    before = TopicPartition(topics.topic(UPDATES), partition, first - 50)
    for deleted in admin.delete_records([before]).values():
        deleted.result(30)
    base = BASE | {"since": f"{partition}:{first}"}
    say(topics, "gone", **base)
    say(topics, "some", **base, partial=True)
    why = await_state(topics, "gone", "refused")["message"]
    assert f"offsets 0 to {first - 51} are no longer in the log" in why
    (found,) = json.loads(await_state(topics, "some", "done")["plan"])["result"]
    assert "both begin with nothing" in found["notes"][0]
    assert found["outputs"][FRAMES]["published"] < found["outputs"][FRAMES]["was"] == 360
