"""What is kept of the canary on a setting, and how: processor, service and command read it."""

from dataclasses import dataclass, field

from agents.canary.law import METRICS, Sums

SECOND = 1_000_000
MEASURING, RUNNING, BETTER = "measuring", "running", "better"  # the last: running, and it helps
WORSE, STOPPED, EXPIRED, PROMOTED = "worse", "stopped", "expired", "promoted"
ACTIVE = (MEASURING, RUNNING, BETTER)
BEFORE = 60  # blocks that are measured before the setting is put on
SETTLE = 1  # blocks after that, in which it may act here and not yet there
TENANTS_MAX = 500  # of a group
FOR_S = (60, 86_400)  # how long one may last


@dataclass(slots=True)
class Canary:
    """The one that runs, or ran last. Key: the setting, PROCESSOR.NAME."""

    id: str = ""
    state: str = ""
    setting: str = ""  # NAME or NAME@DOMAIN
    value: str = ""
    tenants: list[str] = field(default_factory=list)
    control: list[str] = field(default_factory=list)
    actor: str = ""
    asked: int = 0  # log time, microseconds
    put_on: int = 0  # the same; 0: not yet
    ended: int = 0
    first: int = 0  # the first block that was measured before: seconds since 1970
    block: int = 0  # the last one taken
    last_before: int = 0  # the last of those before
    before: list[float] = field(default_factory=list)  # `Sums.numbers` of each metric
    after: list[float] = field(default_factory=list)
    most: list[float] = field(default_factory=list)  # of each, the greatest log E so far
    canary: list[float] = field(default_factory=list)  # sums of the groups' means since then
    others: list[float] = field(default_factory=list)
    why: str = ""  # what was found
    due: int | None = None  # when it ends by itself


def sums(numbers: list[float]) -> list[Sums]:
    """Those of each metric."""
    width = len(numbers) // len(METRICS)
    return [Sums.of(numbers[k : k + width]) for k in range(0, len(numbers), width or 1)] or [
        Sums() for _ in METRICS
    ]


def numbers(given: list[Sums]) -> list[float]:
    """As a row keeps them."""
    return [number for one in given for number in one.numbers]


def quantum(row: Canary) -> float:
    """By how much one event of one tenant moves the groups' difference."""
    return 1.0 / min(len(row.tenants), len(row.control))
