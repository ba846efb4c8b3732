"""/rho: octets and JSON, what is refused and how, and what /healthz says of it."""

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from agents.rho.envelope import crc_of, pack, unpack
from agents.settings import Settings
from tests.live.agents.api.helpers import acme, bearer, events_of
from tests.live.agents.api.inside import Client

OCTETS = "application/octet-stream"
EYE = np.eye(4) / 4


def mixed(share: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.diag([share, 1 - share])
    return found


def put(client: Client, content: bytes, expected: int | str = 0, **headers: str) -> httpx.Response:
    who = acme(content_type=OCTETS, **headers)
    return client.request(
        "PUT", f"/rho/k?expected_version={expected}", content=content, headers=who
    )


def as_json(client: Client, matrix: Any, key: str = "j") -> httpx.Response:
    where = f"/rho/{key}?expected_version=0"
    return client.request("PUT", where, json={"matrix": matrix}, headers=acme())


def test_octets_and_json_are_one_matrix(client: Client, database: Settings) -> None:
    assert client.get("/healthz").json()["psd_ok"] is None
    first = put(client, pack(mixed(1 / 3)), idempotency_key="one")
    crc = crc_of(pack(mixed(1 / 3), 1))
    assert first.json() == {
        "result": "OK", "tenant": "acme", "versions": {"k": 1}, "crcs": {"k": crc},
        "repeated": False, "cached": True,
    }, first.text  # fmt: skip
    again = put(client, pack(mixed(1 / 3)), idempotency_key="one").json()
    assert again["repeated"] and again["crcs"] == {"k": crc}
    other = put(client, pack(mixed(0.5)), idempotency_key="one")
    assert (other.status_code, other.json()["result"]) == (409, "IDEMPOTENCY_MISMATCH")
    stale = put(client, pack(mixed(0.5)), 7)
    assert (stale.status_code, stale.json()["current"], stale.json()["lost"]) == (409, 1, True)
    lost = put(client, pack(mixed(0.5)), "1&expected_crc=00000000")
    assert (lost.status_code, lost.json()["lost"]) == (409, True)
    assert "went back in time" in lost.json()["detail"]
    octets = client.get("/rho/k", headers=acme(accept=OCTETS))
    assert octets.content == pack(mixed(1 / 3), 1) and octets.headers["x-rho-version"] == "1"
    shown = client.get("/rho/k", headers=acme()).json()
    assert (shown["version"], shown["source"], shown["crc"]) == (1, "redis", crc)
    assert octets.headers["x-rho-crc"] == crc
    assert (np.array(shown["matrix"]) == unpack(octets.content).matrix).all()
    packed = base64.b64encode(pack(EYE)).decode()
    both = {"commits": [
        {"key": "k", "expected_version": 1, "expected_crc": crc, "envelope": packed},
        {"key": "new", "expected_version": 0, "matrix": EYE.tolist()},
    ]}  # fmt: skip
    assert client.post("/rho", json=both, headers=acme()).json()["versions"] == {"k": 2, "new": 1}
    assert client.post("/rho", json=both, headers=acme()).status_code == 409
    events = events_of(database)
    assert [one["topic"] for one in events] == ["rho.status"] * 3
    assert client.get("/healthz").json() == {
        "status": "alive", "psd_ok": True, "trace_error": 0.0,
    }  # fmt: skip
    metrics = client.get("/metrics").text
    assert 'soma_rho_commits_total{result="OK"} 3.0' in metrics
    assert "soma_rho_degraded_mode 0.0" in metrics and "acme" not in metrics


def test_why_the_database_gives_no_answer_is_said_and_logged(
    api: Callable[..., Client], database: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Not "PostgreSQL doesn't answer" where it does: nobody would look for the migration."""
    lacking = api(database.model_copy(update={"namespace": f"{database.namespace}_none"}))
    for answer in (put(lacking, pack(EYE)), lacking.get("/rho/k", headers=acme())):
        assert answer.status_code == 503 and "run `soma migrate up`" in answer.json()["detail"]
    said = [one.getMessage() for one in caplog.records if one.name == "agents.api.rho_routes"]
    assert len(said) == 2 and all("run `soma migrate up`" in one for one in said)


def test_what_is_no_density_matrix_or_not_the_callers_is_refused(client: Client) -> None:
    bad = {
        "trace": (EYE * 1.1).tolist(), "psd": [[1.5, 0.0], [0.0, -0.5]],
        "symmetric": [[0.5, 0.1], [0.2, 0.5]], "square": [[0.5, 0.5]],
    }  # fmt: skip
    for which, matrix in bad.items():
        answer = as_json(client, matrix)
        assert (answer.status_code, answer.json().get("which")) == (422, which), answer.text
        assert answer.json()["result"] == "INVARIANT_VIOLATION"
    odd: list[Any] = [[["1"]], [[True]], [[1], 2], [[1], [1, 2]], [], "x", [[10**400]]]
    for one in odd:
        answer = as_json(client, one)
        assert answer.status_code == 422 and answer.json()["errors"][0]["at"] == "/matrix", one
    assert as_json(client, [[float("1e300")]]).json()["which"] == "psd"
    assert put(client, b"SRHO" + bytes(40)).status_code == 422
    large = put(client, pack(EYE)[:8] + bytes(9_000_000))
    assert large.status_code == 413 and "1024 × 1024" in large.json()["detail"]
    assert as_json(client, EYE.tolist(), "a b").status_code == 422
    assert client.get("/rho/none", headers=acme()).status_code == 404
    assert as_json(client, EYE.tolist()).status_code == 200
    behind = client.get("/rho/j?min_version=9", headers=acme()).json()
    assert behind["current"] == 1 and "went back in time" in behind["detail"]
    foreign = bearer(("other",)) | {"x-soma-tenant": "acme"}
    absent = client.get("/rho/none", headers=foreign)
    there = client.get("/rho/j", headers=foreign)
    assert absent.status_code == there.status_code == 403
    assert absent.json()["detail"] == there.json()["detail"]
    twice = [{"key": "x", "expected_version": 0, "matrix": [[1]]}] * 2
    assert client.post("/rho", json={"commits": twice}, headers=acme()).status_code == 422
