"""ops/METRICS.md: what it lists, what other pages and figures of `soma segment` say of it."""

import re
from pathlib import Path

import pytest

from tests.metrics_page import Metric, differences, documented, said

REPO = Path(__file__).parents[2]
WORD = re.compile(r"\bsoma_[a-z0-9_]*[a-z0-9]")
# Other things of ours with such names: functions and roles are in the migrations.
OTHERS = {  # examples, packages
    "soma_x", "soma_avro", "soma_outbox", "soma_outbox_avro", "soma_owner", "soma_client",
    "soma_plugins",
}  # fmt: skip


def names() -> set[str]:
    return {name for section in documented().values() for name in section}


def test_each_metric_is_listed_once() -> None:
    listed = [name for section in documented().values() for name in section]
    assert len(listed) == len(set(listed)) > 50


def test_pages_speak_of_no_metric_that_is_not_listed() -> None:
    migrations = " ".join(one.read_text() for one in (REPO / "migrations").glob("*.sql"))
    known = names() | OTHERS | set(WORD.findall(migrations))
    pages = [*REPO.glob("*.md"), *(REPO / "ops").rglob("*.md"), *(REPO / "migrations").glob("*.md")]
    assert len(pages) > 5
    unknown = {
        f"{page.relative_to(REPO)}: {word}"
        for page in pages
        for word in WORD.findall(page.read_text(encoding="utf-8"))
        if word not in known
    }
    assert not unknown, f"add these to ops/METRICS.md, or name what there is: {sorted(unknown)}"


def test_differences_are_told_both_ways_with_what_to_do() -> None:
    page = said(
        '# TYPE soma_a_total counter\nsoma_a_total{b="1"} 2\n# TYPE soma_c gauge\nsoma_c 1\n'
        "# TYPE other gauge\nother 1\n"
    )
    assert page == {
        "soma_a_total": Metric("counter", frozenset("b")), "soma_c": Metric("gauge", frozenset()),
    }  # fmt: skip
    assert differences(page, page) == []
    gone, more = {"soma_d": Metric("gauge", frozenset())}, {"soma_a_total": page["soma_a_total"]}
    undocumented, missing = differences(more | gone, page)
    assert "soma_c is emitted" in undocumented and "add it to ops/METRICS.md" in undocumented
    assert "soma_d stands in" in missing
    (wrong,) = differences(page | {"soma_c": Metric("counter", frozenset())}, page)
    assert wrong.startswith("soma_c: ")


@pytest.mark.kernel
def test_labelled_series_write_what_is_documented_and_nothing_else(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from agents.cli import main

    step, marks, out = tmp_path / "step.txt", tmp_path / "marks.txt", tmp_path / "out.prom"
    step.write_text("".join(f"{k % 7 + 50 * (k >= 100)}\n" for k in range(200)))
    marks.write_text("100\n")
    words = ["segment", str(step), "--labels", str(marks), "--metrics", str(out)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    found = differences(documented()["Labelled series"], said(out.read_text()))
    assert not found, "\n".join(found)
    assert 'soma_segment_f1{domain="column1",series="step"} 1.0' in out.read_text()
    assert "--labels" in CliRunner().invoke(main, ["segment", str(step), "--metrics", "x"]).output
