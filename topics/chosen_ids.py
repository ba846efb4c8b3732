"""Where an installation's schema ids come from, as its broker knows it: a file or a registry.

The same numbers mean other schemas in the one than in the other, so it is chosen once, and whoever
forgets the setting, or sets it later, must not write a byte. An installation with a registry has
the topic MARK, which `soma topics apply` makes before all others; it holds nothing.
"""

from collections.abc import Collection
from typing import Any, Protocol

from topics.broker import connect, seen
from topics.registry import URL, RegistryError, chosen
from topics.topic import Topic

MARK = "soma.schema.ids"
ROW = Topic(MARK, None, "none: it is empty", "none", (), ("operators",), cleanup="compact")
EPOCHS = "soma.epochs"  # without it there was never a processor here


class Named(Protocol):
    """What of settings is needed here."""

    def topic(self, name: str) -> str: ...

    def librdkafka(self, **more: Any) -> dict[str, Any]: ...


_right: set[tuple[str, str]] = set()  # installations that were asked: it is for good


def mark() -> dict[str, Topic]:
    """The topics that the catalogue has for it: one where ids come from a registry."""
    return {MARK: ROW} if chosen() is not None else {}


def contradiction(there: Collection[str], settings: Named) -> str:
    """Why ids mustn't be taken from where they are; empty: they may. `there`: topics that are, of
    all that belong to the installation.
    """
    marked, name = settings.topic(MARK) in there, settings.topic(MARK)
    if chosen() is None:
        return marked * (
            f"its schema ids come from a registry (so the topic {name} says): set {URL}"
        )
    if marked or not there:
        return ""
    return (
        f"its schema ids come from avro/ids.json (there are topics, but none {name} that we may "
        f"see): unset {URL}, or begin anew with another SOMA_NAMESPACE"
    )


def insist(settings: Named) -> None:
    """Raise RegistryError where this process' ids aren't those of the installation, BrokerError
    where no broker says so.
    """
    installation = str(settings.librdkafka()["bootstrap.servers"]), settings.topic("")
    if installation in _right:
        return
    names = [settings.topic(MARK), settings.topic(EPOCHS)]
    if why := contradiction(seen(connect(settings.librdkafka()), names), settings):
        raise RegistryError(f"nothing is written: of this installation, {why}")
    _right.add(installation)
