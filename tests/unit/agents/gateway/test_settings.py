import pytest
from pydantic import SecretStr, ValidationError

from agents.settings import GatewaySettings, Settings


def test_the_law_s_numbers_are_the_defaults() -> None:
    own = GatewaySettings()
    assert (own.failures, own.open_s, own.health_every_s) == (3, 60.0, 5.0)


@pytest.mark.parametrize(
    "endpoint",
    ["memory:8080", "ftp://memory", "http://", "http://a b", "http://m/?q", "http://u:p@memory"],
)
def test_an_endpoint_is_an_address_without_a_secret(endpoint: str) -> None:
    with pytest.raises(ValidationError):
        Settings(memory_http_endpoint=endpoint)


def test_the_token_is_never_shown() -> None:
    settings = Settings(
        memory_http_endpoint="https://memory:8443/v1", memory_http_token=SecretStr("s3cret")
    )
    assert "s3cret" not in f"{settings!r} {settings.shown()}"
    assert settings.shown()["memory_http_endpoint"] == "https://memory:8443/v1"
