"""A quarter of what is under way may be one tenant's."""

import pytest

from agents.api.shares import Shares


@pytest.mark.parametrize(("most", "each"), [(256, 64), (8, 2), (7, 1), (3, 1), (1, 1)])
def test_one_name_has_its_share_and_leaves_the_rest(most: int, each: int) -> None:
    shares = Shares(most)
    assert [shares.enter("a") for _ in range(each + 2)] == [True] * each + [False] * 2
    assert shares.enter("b")
    shares.leave("a")
    assert [shares.enter("a") for _ in range(2)] == [True, False]
