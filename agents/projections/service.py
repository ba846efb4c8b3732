"""The projections beside a worker's processors: topics into Redis and PostgreSQL."""

import logging

from agents.projections.frames import FramesToRedis
from agents.projections.postgres import TopicToTable
from agents.services.base import Service
from agents.settings import Settings
from agents.tables.declared import declared

log = logging.getLogger(__name__)


def services(settings: Settings) -> list[Service]:
    """Those that the settings ask for, as far as there are stores."""
    found: list[Service] = []
    if settings.redis_url.get_secret_value():
        found.append(FramesToRedis(settings))
    if settings.postgres_dsn.get_secret_value():
        found.extend(TopicToTable(settings, what) for what in declared(settings))
    for name, url in (("REDIS_URL", settings.redis_url), ("POSTGRES_DSN", settings.postgres_dsn)):
        if not url.get_secret_value():
            log.warning("SOMA_%s isn't set: nothing is projected there", name)
    return found
