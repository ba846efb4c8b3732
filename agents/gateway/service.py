"""The gateway beside a worker's processors."""

from agents.gateway.gateway import NAME, Gateway
from agents.services.base import Service
from agents.settings import Settings, SettingsError


def services(settings: Settings) -> list[Service]:
    """The gateway, where there is a service to deliver to. SettingsError if it is asked for, and
    there is none.
    """
    if settings.memory_http_endpoint:
        return [Gateway(settings)]
    if NAME in settings.agents:
        raise SettingsError(
            "SOMA_AGENTS names the gateway, and no service to deliver to is set: "
            "set SOMA_MEMORY_HTTP_ENDPOINT=https://host:port"
        )
    return []
