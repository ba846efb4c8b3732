"""An installation's ids come from a file or from a registry, for good."""

import re
from typing import Any

import pytest

from topics.chosen_ids import MARK, contradiction, mark
from topics.registry import URL


class Broker:
    def topic(self, name: str) -> str:
        return f"ns.{name}"

    def librdkafka(self, **more: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("registry", "there", "why"),
    [
        (False, [], ""),
        (False, ["ns.soma.epochs"], ""),
        (False, [f"ns.{MARK}", "ns.soma.epochs"], f"come from a registry .* set {URL}"),
        (True, [], ""),
        (True, [f"ns.{MARK}"], ""),
        (True, [f"ns.{MARK}", "ns.soma.epochs"], ""),
        (True, ["ns.soma.epochs"], f"come from avro/ids.json .* unset {URL}"),
    ],
)
def test_who_forgets_the_registry_or_chooses_it_late_is_told(
    registry: bool, there: list[str], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(URL, raising=False)
    if registry:
        monkeypatch.setenv(URL, "http://there")
    said = contradiction(dict.fromkeys(there), Broker())
    assert re.search(why, said) if why else not said
    assert list(mark()) == [MARK] * registry
