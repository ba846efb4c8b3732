"""Workers of row processors are killed while records flow: all that they wrote is compared."""

from agents.settings import Settings
from ops.prove.ledger.check import Report
from ops.prove.rows import Options, prove


def test_killed_row_processors_lose_double_and_misplace_nothing(settings: Settings) -> None:
    report = prove(settings, Options(events=24_000, rate=4_000, kills=2, seed=7), print)
    assert report.problems == [], "\n".join(report.examples)
    assert report.kills == 2 and report.busy_kills >= 1
    assert report.records > 24_000 and report.rows > 1000 and min(report.used.values()) > 0


def test_the_comparison_finds_what_is_wrong() -> None:
    good = Report(outputs=2, used={"timers": 1})
    assert good.problems == []
    for name in Report.BAD:
        bad = Report(outputs=2, used={"timers": 1})
        setattr(bad, name, 3)
        assert bad.problems == [f"{name}: 3"]
    assert Report(used={"timers": 0}).problems == ["never used: timers", "nothing was written"]
