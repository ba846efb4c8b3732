"""Who gets in, and for which tenant; all the ways to forge a token, and that nothing leaks."""

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from agents.settings import Settings
from tests.live.agents.api.conftest import Api
from tests.live.agents.api.helpers import SECRET, acme, admin, bearer, events_of, observation
from tests.live.agents.api.inside import Client

PATH = "/events/cog.observations"
ONE = {"payload": observation()}


def part(data: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def unsigned(algorithm: object, signature: str = "") -> dict[str, str]:
    claims = {"sub": "x", "exp": int(time.time()) + 600, "tenants": ["acme"], "roles": ["write"]}
    token = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}.{signature}"
    return {"authorization": f"Bearer {token}"}


def forged() -> dict[str, dict[str, str]]:
    good = bearer()["authorization"]
    head, claims, signature = good.removeprefix("Bearer ").split(".")
    now = int(time.time())
    return {
        "nothing": {},
        "no bearer": {"authorization": "Basic YTpi"},
        "empty": {"authorization": "Bearer "},
        "no token": {"authorization": "Bearer x"},
        "bytes": {"authorization": "Bearer ä.ö.ü".encode("latin-1").decode("latin-1")},
        "none": unsigned("none"),
        "None": unsigned("None"),
        "none, signed": unsigned("none", signature),
        "no algorithm": unsigned(None),
        "an algorithm that is no text": unsigned({"a": 1}),
        "without signature": {"authorization": f"Bearer {head}.{claims}."},
        "other claims": {"authorization": f"Bearer {head}.{part({'tenants': '*'})}.{signature}"},
        "another secret": bearer(secret="another secret of thirty-two bytes"),
        "HS512": bearer(algorithm="HS512", secret=SECRET * 2),
        "expired": bearer(exp=now - 60),
        "no end": {"authorization": f"Bearer {jwt.encode({'sub': 'x'}, SECRET)}"},
        "an end that is no number": bearer(exp="soon"),
        "not yet": bearer(nbf=now + 600),
        "nobody": bearer(sub=""),
        "a subject with a line's end": bearer(sub="a\nb"),
        "tenants that are no list": bearer(tenants={"acme": True}),
        "a tenant that is no name": bearer(tenants=["a/b"]),
        "too long": bearer(filler="x" * 9000),
    }


def test_no_forged_token_gets_in(client: Client, database: Settings) -> None:
    for what, headers in forged().items():
        raw = {name: text.encode("latin-1") for name, text in headers.items()}
        answer = client.post(PATH, json=ONE, headers={**raw, "x-soma-tenant": b"acme"})
        assert answer.status_code == 401, what
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert "authorization" not in answer.text and "eyJ" not in answer.text
    assert events_of(database) == []
    assert client.post(PATH, json=ONE, headers=acme()).status_code == 202


def test_who_calls_is_asked_before_anything_else(client: Client) -> None:
    for given in ({"content": b"{" * 100_000}, {"content": b"x" * 8_000_000}, {"json": 1}):
        assert client.post(PATH, **given).status_code == 401
    assert client.post("/events/no.such.topic", json=ONE).status_code == 401


def test_another_tenant_is_403_whether_it_exists_or_not(client: Client) -> None:
    other = bearer(("other",))
    assert client.post(PATH, json=ONE, headers=other | {"x-soma-tenant": "other"}).is_success
    seen = []
    for tenant in ("other", "nobody-has-this"):
        answer = client.post(PATH, json=ONE, headers=acme(x_soma_tenant=tenant))
        said = answer.json()
        assert (said.pop("request_id"), answer.status_code)[1] == 403
        seen.append((said, {k: v for k, v in answer.headers.items() if k != "x-request-id"}))
    assert seen[0] == seen[1]
    # Without the header the tenant is `default`, or the namespace's: not the token's either.
    assert client.post(PATH, json=ONE, headers=bearer()).status_code == 403
    memory = {"payload": {}, "namespace": "brain:other"}
    assert client.post("/memories", json=memory, headers=bearer()).status_code == 403


def test_a_star_covers_all_and_roles_are_apart(client: Client) -> None:
    everybody = bearer(("*",))
    assert client.post(PATH, json=ONE, headers=everybody).json()["tenant"] == "default"
    for roles in ((), ("read",), ("admin",)):
        answer = client.post(PATH, json=ONE, headers=bearer(("*",), roles))
        assert answer.status_code == 403
    assert client.get("/admin/outbox", headers=everybody).status_code == 403
    assert client.get("/admin/outbox", headers=admin()).status_code == 200


def test_issuer_and_audience_count_when_they_are_set(api: Api) -> None:
    client = api(jwt_issuer="us", jwt_audience="soma")
    tenant = {"x-soma-tenant": "acme"}
    good = bearer(iss="us", aud=["soma", "others"])
    assert client.post(PATH, json=ONE, headers=good | tenant).status_code == 202
    for claims in ({"iss": "us"}, {"aud": "soma"}, {"iss": "them", "aud": "soma"}, {}):
        answer = client.post(PATH, json=ONE, headers=bearer(**claims) | tenant)
        assert answer.status_code == 401, claims


class Keys:
    """A server of a JWKS, whose keys and mood may change."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.status, self.asked = 200, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                body = outer.text().encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, kid: str, bits: int = 2048) -> rsa.RSAPrivateKey:
        key = rsa.generate_private_key(65537, bits)
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.keys[kid] = {**public, "kid": kid, "use": "sig", "alg": "RS256"}
        return key

    def text(self) -> str:
        return json.dumps({"keys": list(self.keys.values())})


@pytest.fixture
def keys() -> Iterator[Keys]:
    one = Keys()
    yield one
    one.server.shutdown()
    one.server.server_close()


def signed(key: Any, kid: str | None, algorithm: str = "RS256") -> dict[str, str]:
    claims = {"sub": "x", "exp": int(time.time()) + 60, "tenants": ["acme"], "roles": ["write"]}
    headers = {} if kid is None else {"kid": kid}
    token = jwt.encode(claims, key, algorithm=algorithm, headers=headers)
    return {"authorization": f"Bearer {token}", "x-soma-tenant": "acme"}


def test_a_public_key_is_no_secret(api: Api, keys: Keys) -> None:
    """RS256/HS256 confusion: the key set's keys verify RS256 and nothing else."""
    key = keys.add("a")
    client = api(jwt_secret="", jwks_url=keys.url)
    assert client.post(PATH, json=ONE, headers=signed(key, "a")).status_code == 202
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    # PyJWT itself refuses to sign so: by hand.
    head = f"{part({'alg': 'HS256', 'kid': 'a'})}.{signed(key, 'a')['authorization'].split('.')[1]}"
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head.encode(), pem)
    token = f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
    wrong = {"authorization": f"Bearer {token}", "x-soma-tenant": "acme"}
    assert client.post(PATH, json=ONE, headers=wrong).status_code == 401
    assert client.post(PATH, json=ONE, headers=acme()).status_code == 401
    assert client.post(PATH, json=ONE, headers=signed(key, "a", "RS512")).status_code == 401
    # Nor does an API with a secret take what RSA has signed.
    assert api().post(PATH, json=ONE, headers=signed(key, "a")).status_code == 401


def test_keys_are_cached_and_unknown_ids_fetch_rarely(api: Api, keys: Keys) -> None:
    key = keys.add("a")
    client = api(jwt_secret="", jwks_url=keys.url)
    for _ in range(5):
        assert client.post(PATH, json=ONE, headers=signed(key, "a")).status_code == 202
    assert client.post(PATH, json=ONE, headers=signed(key, None)).status_code == 202
    stranger = rsa.generate_private_key(65537, 2048)
    for k in range(20):
        assert client.post(PATH, json=ONE, headers=signed(stranger, f"x{k}")).status_code == 401
    assert client.post(PATH, json=ONE, headers=signed(stranger, "a")).status_code == 401
    assert keys.asked == 1
    keys.status = 500
    assert client.post(PATH, json=ONE, headers=signed(key, "a")).status_code == 202
    assert client.get("/readyz").json()["dependencies"]["jwks"] == "up"


def test_without_any_key_the_api_says_503(api: Api, keys: Keys) -> None:
    keys.add("weak", 1024)
    stranger = rsa.generate_private_key(65537, 2048)
    client = api(jwt_secret="", jwks_url=keys.url)
    answer = client.post(PATH, json=ONE, headers=signed(stranger, "weak"))
    assert answer.status_code == 503 and answer.headers["retry-after"]
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["dependencies"] == {"postgres": "up", "jwks": "down"}


def test_keys_may_lie_in_a_file(api: Api, keys: Keys, tmp_path: Path) -> None:
    key = keys.add("a")
    (tmp_path / "keys.json").write_text(keys.text())
    client = api(jwt_secret="", jwks_file=tmp_path / "keys.json")
    assert client.post(PATH, json=ONE, headers=signed(key, "a")).status_code == 202
    assert keys.asked == 0
