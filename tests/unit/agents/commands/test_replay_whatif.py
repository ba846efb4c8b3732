"""What a what-if is told on the command line, and how its result is shown."""

from typing import Any

import pytest
from click.testing import CliRunner

from agents.cli import main
from agents.commands import replay_whatif
from agents.history.figures import BINS, Boundaries, Frames, in_both

GIVEN: dict[str, Any] = {
    "target": "", "shadow": "", "tenants": ("t",), "domains": (), "predicate": "", "since": "5",
    "until": "", "settings": ("a.b=1",), "processor": "", "apply": False, "losses": (),
    "partial": False, "dry_run": False, "rate_limit": 0, "actor": "eva", "topic": "",
}  # fmt: skip


def test_the_stretch_ends_at_to_and_nothing_else_is_said() -> None:
    record = replay_whatif.record_of(GIVEN | {"target": "9", "shadow": replay_whatif.UNNAMED})
    assert (record["mode"], record["since"], record["until"]) == ("what-if", "5", "9")
    assert not {"target", "shadow", "processor", "apply", "losses", "topic"} & record.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("what-if",), "give --set"),
        (("--set", "a.b=1", "--shadow", "try"), "--shadow takes no name here"),
        (("--set", "a.b=1", "--to", "9", "--until", "8"), "give one"),
        (("--set", "a.b=1", "--domain", "x", "--where", "y"), "a what-if takes --set, --tenant"),
        (("--set", "a.b=1", "--apply"), "a what-if takes --set"),
        ((), "give a TOPIC"),
        (("cog.observations", "--shadow"), "give --shadow a name"),
    ],
)
def test_what_cant_be_meant_is_named(words: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(main, ["replay", "start", *words])
    assert done.exit_code == 1 and said in done.output, done.output


def result() -> dict[str, Any]:
    """As a job has it."""
    sides = Frames(2.0), Frames(2.0)
    for k in range(100):
        for side, leader in zip(sides, ("a", "b" if k > 50 else "a"), strict=True):
            weights = {"a": 0.4, "b": 0.6} if leader == "b" else {"a": 0.7, "b": 0.3}
            side.add(
                {"tenant": "t", "errors": {"a": 0.1 * (k > 80), "b": 0.0}, "weights": weights,
                 "leader": leader, "ts": k, "entropy": 0.1}, k / 100,
            )  # fmt: skip
    was, would = Boundaries(), Boundaries()
    for _ in range(9):
        was.add(
            {"tenant": "t", "domain": "a", "evidence": "cpd", "frames": 50, "boundary_ts": 0,
             "detected_ts": 0}, 0,
        )  # fmt: skip
    output = {
        "was": 100, "would": 100, "equal": 51, "differing": 49, "only_was": 0, "only_would": 0,
        "fields": {"leader": 49}, "published": 99,
    }  # fmt: skip
    return {
        "tenant": "t", "records": 100, "notes": ["an \x1b[31mold law"], "outputs": {"f": output},
        "figures": {
            "f": {"was": sides[0].data(), "would": sides[1].data()},
            "s": {"was": was.data(), "would": would.data(), "boundaries": in_both(was, would)},
        },
    }  # fmt: skip


def test_the_result_is_a_table_and_a_plot() -> None:
    stretch = {"tenant": "t", "partition": 2, "begin": 0, "from": 10, "to": 110}
    plan = {
        "processor": "integrator", "settings": {"fusion": "hedge"}, "source": "u",
        "stretches": [stretch], "result": [result()],
    }  # fmt: skip
    lines = list(replay_whatif.lines_of(plan))
    text = "\n".join(lines)
    for said in (
        "integrator: fusion=hedge (would)", "t: offsets 10 to 110 of u/2, 10 offsets before it",
        "f: 51 of 100 equal, 49 differ (leader 49)", "only 99 of 100 are as published",
        "note: an \\x1b[31mold law", "0 in both (within 10 frames), 9 only was, 0 only would",
        "and 4 more only was", "a a, b b",
    ):  # fmt: skip
        assert said in text, text
    cells = {line[4:18].strip(): line[18:].split() for line in lines}
    assert cells["leader changes"] == ["0", "1"] and cells["by cpd"] == ["9", "0"]
    assert cells["b leads"] == ["0.0", "%", "49.0", "%"]
    plots = [line for line in lines if line.startswith("    leaders ")]
    assert [line[-BINS:] for line in plots] == ["a" * BINS, "a" * 31 + "b" * 29]
    assert list(replay_whatif.lines_of({})) == []


def test_of_all_tenants_those_that_differ_most_are_named() -> None:
    sides = {"was": {"regret": 1.5, "frames": 9}, "would": {"regret": 0.5, "frames": 9}}
    most = [
        {"tenant": "t1", "unlike": 7, "figures": {"f": sides}},
        {"tenant": "t2", "unlike": 1, "figures": {}},
    ]  # fmt: skip
    found = result() | {"tenant": "*", "tenants": 3, "most": most}
    found["outputs"]["f"] |= {"looked_for": 50, "published": 50}
    stretch = {"tenant": "", "partition": 2, "begin": 0, "from": 0, "to": 110}
    plan = {
        "processor": "integrator", "settings": {"fusion": "hedge"}, "source": "u",
        "stretches": [stretch], "result": [found],
    }  # fmt: skip
    text = "\n".join(replay_whatif.lines_of(plan))
    for said in (
        "  all tenants: offsets 0 to 110 of u/2\n", "  all 3 tenants together, 100 records",
        "all 50 of a sample of 100 are as published", "only was: t/a by cpd",
        "    tenants that differ most\n      t1: 7 outputs; regret 1.5000 → 0.5000\n"
        "      t2: 1 output",
    ):  # fmt: skip
        assert said in text, text


def test_bars_are_on_one_scale() -> None:
    assert replay_whatif.bars([0.0, 0.5, None, 1.0, 2.0], 1.0) == "▁▅ ██"
    assert replay_whatif.bars([0.0], 0.0) == "▁"
