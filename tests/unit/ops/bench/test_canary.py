"""The canaries' benchmark, in short: harm is found, and nothing where there is none."""

from ops.bench import canary


def test_harm_is_taken_back_and_nothing_isnt() -> None:
    said: list[str] = []
    found = canary.run(3, 30, 40, said.append)
    assert [one.state for one in found["harm"]] == ["worse"] * 3, found["harm"]
    assert {one.state for one in found["nothing"]} == {"running"}, found["nothing"]
    assert len(said) == 6 and len(canary.report(found).rows) == 6
