"""What `soma api` doesn't start with, and its other verbs."""

import json
import subprocess
import sys
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner

from agents.api.app import make
from agents.api.tokens import Tokens
from agents.commands.api import api
from agents.settings import ApiSettings, Settings, SettingsError, load

SECRET = "a secret of thirty-two bytes, no less"


def refused(**given: object) -> str:
    settings = Settings(api=ApiSettings.model_validate(given))
    with pytest.raises(SettingsError) as caught:
        make(settings)
    return str(caught.value)


def test_it_refuses_to_start_where_anybody_could_do_anything(tmp_path: Path) -> None:
    assert "SOMA_API__JWT_SECRET" in refused()
    assert "32 bytes" in refused(jwt_secret="short")
    assert "exactly one" in refused(jwt_secret=SECRET, jwks_url="https://x/keys")
    assert "exactly one" in refused(jwks_file="/x", jwks_url="https://x/keys")
    assert "loopback" in refused(auth="off", host="0.0.0.0")
    for url in ("http://example.org/keys", "http://127.0.0.1.example.org/keys"):
        assert "https" in refused(jwks_url=url)
    assert "can't be read" in refused(jwt_secret_file=tmp_path / "none")
    assert "one of" in refused(jwt_secret=SECRET, jwt_secret_file=tmp_path / "none")


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    Tokens(ApiSettings(jwt_secret_file=tmp_path / "secret"))


def test_a_token_is_printed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_API__JWT_SECRET", SECRET)
    words = ["token", "--tenant", "a", "--tenant", "b", "--role", "write", "--ttl", "60"]
    done = CliRunner().invoke(api, words)
    assert done.exit_code == 0, done.output
    claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
    assert (claims["tenants"], claims["roles"]) == (["a", "b"], ["write"])
    assert claims["exp"] - claims["iat"] == 60
    for bad in (["--tenant", "a b"], ["--role", "king"], ["--ttl", "0"], ["--subject", ""]):
        assert CliRunner().invoke(api, [*words, *bad]).exit_code != 0, bad


def test_no_token_without_a_secret() -> None:
    done = CliRunner().invoke(api, ["token", "--tenant", "a", "--role", "read"])
    assert done.exit_code != 0 and isinstance(done.exception, SettingsError)
    assert "SOMA_API__JWT_SECRET" in str(done.exception)


def test_the_contract_is_printed_without_any_setting() -> None:
    done = CliRunner().invoke(api, ["openapi"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["openapi"].startswith("3.1")
    assert {"/events/{topic}", "/memories", "/admin/outbox/replay/tenant"} <= set(document["paths"])
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if status >= "400" and operation["summary"] != "Are events accepted?":
                    assert list(response["content"]) == ["application/problem+json"]


def test_a_secret_may_lie_among_the_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "SOMA_API__JWT_SECRET").write_text(SECRET + "\n")
    monkeypatch.setenv("SOMA_SECRETS_DIR", str(tmp_path))
    assert load().api.jwt_secret.get_secret_value() == SECRET
    assert SECRET not in json.dumps(load().shown())


def test_the_api_loads_neither_kernels_nor_faust() -> None:
    """Though it asks the workers' group and knows the processors by name."""
    code = "import sys, agents.api.app; print({'numba', 'faust'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
