"""The outbox's drivers, as far as they need no servers: which blows, and what grows."""

import pytest

from ops.prove.outbox import OTHERS, Strikes
from ops.prove.outbox_run import Report
from ops.prove.outbox_soak import BOUNDED, table, unbounded


def test_twenty_kills_come_with_every_other_kind_but_one() -> None:
    sequence = Strikes(kills=24).sequence()
    assert sequence.count("kill") == 24
    assert set(sequence) == {"kill", *OTHERS}
    assert [one for one in Strikes(kills=20).sequence() if one != "kill"] == list(OTHERS[:6])


def test_a_script_is_followed() -> None:
    assert Strikes(kills=20, script=("broker", "kill")).sequence() == ["broker", "kill"]


def samples(last: float) -> list[dict[str, float]]:
    base = dict.fromkeys(BOUNDED, 100.0)
    return [{"s": float(k), **base} for k in range(6)] + [
        {"s": 6.0 + k, **base, "queue MB": last} for k in range(3)
    ]


@pytest.mark.parametrize(("last", "grows"), [(100.0, False), (124.0, False), (126.0, True)])
def test_growth_is_seen(last: float, grows: bool) -> None:
    found = unbounded(samples(last))
    assert bool(found) == grows
    assert all("queue MB grows" in one for one in found)


def test_little_is_no_growth() -> None:
    few = [{"s": float(k), **dict.fromkeys(BOUNDED, 0.1 + k)} for k in range(9)]
    assert unbounded(few) == []


def test_samples_are_shown_as_columns() -> None:
    lines = table(samples(123.5))
    assert len(lines) == 10 and len({len(line) for line in lines}) == 1
    assert "123.5" in lines[-1] and "queue MB" in lines[0]


def test_a_report_is_clean_only_if_all_is() -> None:
    assert Report(verdict={"clean": True}).clean
    assert not Report(verdict={"clean": True}, left=1).clean
    assert not Report(verdict={"clean": True}, exits=["relay-1"]).clean
    assert not Report(verdict={"clean": True}, unbounded=["grows"]).clean
    assert not Report(verdict={"clean": False}).clean
    assert not Report().clean
    assert "lost 3" in Report(verdict={"lost": 3}).lines()[0]
