"""What `soma replay start rebuild` is told, as the command's record."""

from typing import Any

import click
import pytest

from agents.commands.replay_rebuild import lines_of, record_of, unlike

GIVEN: dict[str, Any] = {
    "target": "", "shadow": "", "tenants": (), "domains": (), "predicate": "", "since": "",
    "until": "", "partial": False, "dry_run": False, "rate_limit": 0, "actor": "eva",
    "processor": "integrator", "apply": True, "losses": (), "folded": (),
}  # fmt: skip


def record(**given: Any) -> dict[str, Any]:
    return record_of("rebuild", GIVEN | given)


def test_what_may_be_missing_is_a_range_whose_last_offset_is_lost_too() -> None:
    said = record(losses=("3:120..149", "0:0..0"))
    assert (said["since"], said["until"], said["partial"]) == ("3:120,0:0", "3:150,0:1", True)
    assert (said["mode"], said["target"], said["apply"]) == ("rebuild", "integrator", True)
    assert record(losses=("7..9",))["since"] == "7"
    assert record(folded=("3:7", "0:9"))["folded_to"] == "3:7,0:9" and not record()["folded_to"]
    early = record(since="snapshot")
    assert (early["begin"], early["since"], record()["begin"]) == ("snapshot", "", "")
    assert not record()["partial"] and record()["since"] == ""
    assert record(apply=False, shadow="try")["shadow"] == "try"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"processor": ""}, "give --processor"),
        ({"losses": ("9..7",)}, "--accept-loss 9..7: "),
        ({"since": "5"}, "a rebuild takes --processor, --tenant, "),
        ({"losses": ("all",)}, "--accept-loss all: "),
        ({"losses": ("1..2", "3:4..5")}, "with several each says its partition"),
        ({"predicate": "a"}, "a rebuild takes --processor, --tenant, "),
    ],
)
def test_what_cant_be_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(click.ClickException, match=said):
        record(**given)
    with pytest.raises(click.ClickException, match="are of rebuild"):
        record_of("cog.observations", dict(GIVEN))


def test_what_a_job_found_is_told_in_lines() -> None:
    part = {
        "from": "the whole log", "to": 9, "rows": 2, "rows_anew": 2, "differ": 2,
        "notes": ["a law"], "differing": [
            {"key": "t/a", "fields": {"level": {"live": 1, "anew": 2}}},
            {"key": "t/b", "only": "anew"},
        ],
        "applied": {"written": 2, "offset": 9, "lost": "3..4"},
    }  # fmt: skip
    assert list(lines_of({"partitions": {"0": part}})) == [
        "  partition 0: 2 rows differ, 2 rows from the whole log to offset 9; applied, 2 rows "
        "written, without offsets 3..4",
        "    note: a law",
        "    t/a: level 1 live, level 2 anew",
        "    t/b: only anew",
    ]
    there = {"updates": {"topic": "try.updates"}, "next": {"topic": "try.next"}}
    assert list(lines_of({"targets": there, "sent": {"updates": 1_700}})) == [
        "  1,700 outputs of updates to try.updates", "  0 outputs of next to try.next",
    ]  # fmt: skip
    dry = list(lines_of({"targets": there, "dry_run": True}))
    assert dry[0] == "  outputs of updates to try.updates"
    rehearsed = {
        "partitions": {}, "dry_run": True, "source": "s", "ranges": {"3": [5, 9]},
        "begins": {"3": "the snapshot at 5"},
    }  # fmt: skip
    assert list(lines_of(rehearsed)) == [
        "  partition 3: offsets 5 to 9 of s, from the snapshot at 5",
    ]
    status = {"mode": "rebuild", "plan": '{"differ": 2, "apply": false}'}
    assert unlike(status) and not unlike(status | {"plan": '{"differ": 2, "apply": true}'})
    assert not unlike(status | {"mode": "republish"})
