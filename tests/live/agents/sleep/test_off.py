"""A worker whose cognition is off: it says so, counts what passes, and is switched on in band."""

import urllib.request

from agents.settings import Settings
from tests.live.conftest import WorkerFactory
from tests.live.helpers import environment, eventually, soma, topics_of

MADE = topics_of("control", "sleep")

OFF = {"SOMA_ENABLE_COG_THREADS": "0"}


def test_off_it_is_never_silent_and_a_tenant_is_switched_on_without_a_restart(
    topics: Settings, worker: WorkerFactory
) -> None:
    running = worker(SOMA_AGENTS="control,sleep", **OFF)
    env = environment(topics, **OFF)
    assert "cognition is off: sleep counts what comes as disabled" in running.tail(400)
    assert "off: canary and sleep count what comes" in soma("doctor", env=env).stdout
    refused = soma("sleep", "set", "acme", "deep", env=env)
    assert refused.returncode == 1 and "acme stays active: cognition is off" in refused.stderr

    def counted() -> bool:
        with urllib.request.urlopen(running.url("/metrics"), timeout=5) as answer:
            return b"soma_sleep_disabled_total 1.0" in answer.read()

    eventually(counted, what="it is counted as disabled")
    on = soma("config", "set", "acme", "cognition", "on", "--processor", "sleep", env=env)
    assert on.returncode == 0, on.stderr
    done = soma("sleep", "set", "acme", "deep", env=env)
    assert done.returncode == 0 and done.stdout.startswith("acme: deep"), done.stderr
    assert soma("sleep", "set", "other", "deep", env=env).returncode == 1
