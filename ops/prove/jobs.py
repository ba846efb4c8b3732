"""A replay job of a proof, from its command to its end, whatever is killed meanwhile."""

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException

from agents.replay import client
from agents.settings import Settings
from topics.broker import BrokerError

DONE_S, LOOK_S = 300.0, 0.3
AWAY = (client.NobodyAnswersError, KafkaException, BrokerError)  # while the broker is


def run_job(settings: Settings, given: Mapping[str, Any]) -> dict[str, Any]:
    """Start a job, and wait for its end; how it is then. RuntimeError where none comes; AWAY."""
    name, deadline = str(given["id"]), time.monotonic() + DONE_S
    while True:  # the same command may come twice: it is one job
        try:
            client.say(settings, client.command({"type": "start", **given}))
            break
        except client.NobodyAnswersError:
            if time.monotonic() > deadline:
                raise
    while time.monotonic() < deadline:
        time.sleep(LOOK_S)
        try:
            with client.Statuses(settings, name, past=True) as statuses:
                found = statuses.last().get(name)
        except AWAY:
            continue
        if found is not None and found["state"] in client.OVER:
            return found
    raise RuntimeError(f"{name} wasn't over within {DONE_S:g} s")
