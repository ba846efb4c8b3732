"""A setting that harms, tried on some tenants of a live pipeline, is taken back; workers are killed
meanwhile.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, produce, read, soma
from topics import codec

OBSERVATIONS, AUDIT = "cog.observations", "soma.audit"
TENANTS = [f"t{k}" for k in range(9)]
EVERY_S = 0.2
ALL = {"SOMA_AGENTS": "predictors,integrator,segmentation,control,canary"}


@contextmanager
def walking(settings: Settings) -> Iterator[None]:
    """Tenants whose vectors walk, each as a whole, until the block's end."""
    over, rng = threading.Event(), np.random.default_rng(1)
    places = rng.normal(size=(len(TENANTS), 2, 1))

    def walk() -> None:
        while not over.wait(EVERY_S):
            places[:] += rng.normal(0, 0.1, places.shape)
            now = time.time_ns() // 1000
            records = [
                (tenant.encode(), codec.encode("observation", {
                    "tenant": tenant, "domain": domain, "ts": now, "sequence": None,
                    "vector": (places[k, d] + rng.normal(0, 0.02, 3)).astype("<f4").tobytes(),
                }))
                for k, tenant in enumerate(TENANTS) for d, domain in enumerate(("state", "agent"))
            ]  # fmt: skip
            produce(settings, OBSERVATIONS, records)

    thread = threading.Thread(target=walk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def seen_tenants(settings: Settings) -> set[str]:
    """Who has had a frame."""
    return {(one.key() or b"").decode() for one in read(settings, "cog.global.frame")}


def said(settings: Settings) -> list[str]:
    """What the audit says of canaries."""
    found = [codec.decode(one.value() or b"")[1] for one in read(settings, AUDIT)]
    return [one["action"][7:] for one in found if one["action"].startswith("canary.")]


@pytest.mark.timeout(600)
def test_what_harms_is_taken_back_by_itself_whoever_is_killed(
    topics: Settings, worker: WorkerFactory
) -> None:
    first, env = worker(**ALL), environment(topics)
    start = ("canary", "start", "--set", "predictor=mahal", "--tenants", "t0,t1,t2")

    def one() -> dict[str, Any]:
        shown = soma("canary", "list", "--json", env=env)
        found: list[dict[str, Any]] = json.loads(shown.stdout)["canaries"]
        return found[0] if found else {}

    with walking(topics):
        eventually(lambda: seen_tenants(topics) >= set(TENANTS), 60, "all have frames")
        begun = soma(*start, env=env)
        assert begun.returncode == 0 and "for 3 tenants (t0, t1, t2)" in begun.stdout, begun.stderr
        second = soma(*start[:-1], "t5", env=env)
        assert (
            second.returncode == 1 and "a canary on predictors.predictor already" in second.stderr
        )
        time.sleep(5)
        first.kill()
        following = worker(**ALL)
        eventually(lambda: said(topics)[-1] == "put_on", 180, "it is put on")
        following.kill()
        worker(**ALL)
        eventually(lambda: one()["state"] == "worse", 180, "it is taken back")

        def back() -> bool:
            told = soma("config", "get", "t1", "--json", env=env).stdout
            return "predictor" not in json.loads(told)["processors"]["predictors"]

        eventually(back, 30, "the tenant has the default again")
    ended = one()
    assert 0 < ended["blocks"] <= 30 and ended["why"].startswith("error is worse by ")
    assert said(topics) == ["measuring", "put_on", "worse"]
    past = json.loads(soma("config", "history", "t1", "--json", env=env).stdout)["changes"]
    assert [(change["was"], change["value"]) for change in past] == [("", "mahal"), ("mahal", "")]
    assert {change["author"] for change in past} == {f"canary:{ended['id']}"}
    shown = soma("canary", "status", "predictors.predictor", env=env).stdout
    assert "predictors.predictor = mahal" in shown and "here," in shown

    margin = ("canary", "start", "--set", "margin=0.1", "--json", "--actor", "eva")
    begun = soma(*margin, "--percent", "20", env=env)
    told = json.loads(begun.stdout)
    assert len(told["tenants"]) == 2 and len(told["control"]) == 7, begun.stderr
    early = soma("canary", "promote", "integrator.margin", env=env)
    assert early.returncode == 1 and "it isn't put on yet" in early.stderr
    done = soma("canary", "stop", told["id"], env=env)
    assert done.returncode == 0 and "integrator.margin is taken back" in done.stdout, done.stderr
    whole = soma(*margin, "--percent", "100", env=env)
    assert whole.returncode == 1 and "there is no control group" in whole.stderr
    strange = soma(*margin, "--tenants", "nobody", env=env)
    assert strange.returncode == 1 and "'nobody': never had a frame" in strange.stderr
