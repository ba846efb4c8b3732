"""Two groups' seconds: each tenant from its own usual, and what both share drops out."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.canary.blocks import Groups

TENANTS = st.sampled_from(("a", "b", "c", "d"))


def frame(tenant: str, error: float, leader: str = "state", **errors: float) -> dict[str, Any]:
    known = {"state": error} | errors
    return {"tenant": tenant, "leader": leader, "domain": "state", "errors": known}


def groups() -> Groups:
    return Groups(frozenset("ab"), frozenset("cd"))


def fill(one: Groups, second: int, **errors: float) -> None:
    for tenant, error in errors.items():
        one.frame(second, frame(tenant, error))


def test_only_what_a_tenant_does_otherwise_than_before_counts() -> None:
    one = groups()
    for second in range(5):
        fill(one, second, a=0.1, b=2.0, c=0.5, d=0.7)
    one.level(one.take(5).values())
    fill(one, 5, a=0.1, b=2.0, c=0.5, d=0.7)
    fill(one, 6, b=2.0, c=0.5)  # who is silent moves nothing
    fill(one, 7, a=0.3, b=2.0, c=0.5, d=0.7)
    made = {second: one.block(second, values, True) for second, values in one.take(8).items()}
    assert [made[5].differences[0], made[6].differences[0]] == pytest.approx([0.0, 0.0])  # type: ignore[union-attr]
    assert made[7] is not None and made[7].differences[0] > 0.05


def test_regret_is_the_leaders_loss_above_the_best_ones() -> None:
    one = groups()
    one.frame(0, frame("a", 0.0, "action", action=9.0))
    one.frame(0, frame("c", 0.0, "state", action=9.0))
    values = one.take(1)[0]
    assert values["a"][1] == pytest.approx(1.0, abs=1e-6) and values["c"][1] == 0.0


def test_changes_of_leader_and_boundaries_are_counted() -> None:
    one = groups()
    for leader in ("state", "action", "action", "state"):
        one.frame(0, frame("a", 0.1, leader, action=0.1))
    fill(one, 0, c=0.1)
    one.boundary(0, "a")
    one.boundary(0, "d")  # no frame of it: not seen
    values = one.take(1)[0]
    assert values["a"][2:] == [2.0, 1.0] and values["c"][2:] == [0.0, 0.0] and "d" not in values


def test_a_second_without_one_of_the_groups_says_nothing() -> None:
    one = groups()
    fill(one, 0, a=0.1)
    fill(one, 1, a=0.1, c=0.1)
    assert list(one.take(2)) == [1] and one.take(9) == {}


def test_the_tenants_of_a_group_that_move_apart_are_measured() -> None:
    one = groups()
    for second in range(9):
        fill(one, second, a=0.0, b=0.0, c=0.0, d=0.0)
    one.level(one.take(9).values())
    assert one.apart() == ([0.0] * 4, 0)
    fill(one, 9, a=9.0, b=0.0, c=0.0, d=0.0)
    one.block(9, one.take(10)[9], True)
    spread, freedom = one.apart()
    assert freedom == 2 and spread[0] == pytest.approx(0.5 / 2 * (1 / 2 + 1 / 2), rel=1e-3)


def test_a_control_group_twice_as_large_tells_alone_how_far_tenants_move() -> None:
    one = Groups(frozenset("a"), frozenset("cd"))
    fill(one, 0, a=0.0, c=0.0, d=0.0)
    one.level(one.take(1).values())
    fill(one, 1, a=9.0, c=0.0, d=9.0)
    one.block(1, one.take(2)[1], True)
    spread, freedom = one.apart()
    assert freedom == 1 and spread[0] == pytest.approx(0.5 * (1 + 1 / 2), rel=1e-3)


@given(st.lists(st.tuples(TENANTS, st.floats(0, 5)), min_size=20, max_size=60), st.integers(1, 19))
def test_it_doesnt_matter_when_blocks_are_taken(rows: list[tuple[str, float]], cut: int) -> None:
    def made(*cuts: int) -> dict[int, Any]:
        one, found = groups(), {}
        for k, (tenant, error) in enumerate(rows):
            second = k // 6
            if k in cuts:
                found |= one.take(second)
            one.frame(second, frame(tenant, error))
        return found | one.take(99)

    assert made(cut) == made()
