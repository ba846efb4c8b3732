"""The rows that the service hears of: what it can't read stops that canary alone, by name."""

from dataclasses import asdict

from agents.canary.agent import PROCESSOR
from agents.canary.service import CanaryService
from agents.canary.state import ACTIVE, STOPPED, Canary
from agents.settings import Settings
from topics import codec

NEWER = b"\0" + (2**31 - 1).to_bytes(4, "big") + b"\0"


def row(state: str) -> bytes:
    own = asdict(Canary(id="one", state=state, setting="temperature", value="2"))
    return codec.encode(PROCESSOR.state_schema, own | {"touched": 0, "settings": {}})


def test_a_row_of_a_newer_version_stops_its_canary_by_name_and_no_other() -> None:
    service = CanaryService(Settings(kafka_bootstrap="127.0.0.1:1"))
    service.hear(0, "integrator.temperature", row(ACTIVE[0]))
    service.hear(1, "integrator.margin", row(ACTIVE[1]))
    service.hear(1, "predictors.alpha", NEWER)
    assert service.wanted.keys() == {"integrator.temperature", "integrator.margin"}
    assert service.stopped() == {"canary of predictors.alpha": "unknown_version"}
    service.hear(1, "integrator.margin", NEWER)  # it was measured, and isn't any more
    assert service.wanted.keys() == {"integrator.temperature"} and len(service.stopped()) == 2
    service.hear(1, "integrator.margin", row(STOPPED))
    service.hear(1, "predictors.alpha", None)
    assert not service.stopped()
    service.hear(0, "integrator.temperature", codec.encode("control_tick", {"ts": 1}))
    assert not service.wanted and len(service.stopped()) == 1
