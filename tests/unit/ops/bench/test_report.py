"""A command rewrites its own section of RESULTS.md and leaves the others."""

from pathlib import Path

from ops.bench.report import Report, spread, write


def report(name: str, value: str) -> Report:
    return Report(name, ("program", "events/s"), [("this engine", value)], "How it was measured.")


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write(report("pipeline", "1"), 0.5, path)
    write(report("latency", "2"), 0.5, path)
    write(report("pipeline", "3"), 0.5, path)
    text = path.read_text()
    assert text.count("## soma bench pipeline\n") == 1
    assert "| this engine | 3 |" in text
    assert "| this engine | 2 |" in text
    assert "| this engine | 1 |" not in text


def test_a_section_whose_name_begins_like_another_is_another(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    write(report("pipeline (lz4)", "1"), 0.5, path)
    write(report("pipeline", "2"), 0.5, path)
    assert "| this engine | 1 |" in path.read_text()


def test_spread_gives_the_median_between_the_extremes() -> None:
    assert spread([3000.0, 1000.0, 2000.0]) == "2,000 (1,000 - 3,000)"
    assert spread([1.234], 2) == "1.23"
    assert spread([]) == "-"
