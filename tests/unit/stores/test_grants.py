"""Names of policies: no two roles have the same, as PostgreSQL sees them."""

from hypothesis import given
from hypothesis import strategies as st

from stores.grants import NAME_BYTES, PURPOSES, Purpose, policy_of

ROLES = st.text(st.sampled_from("aé:0 "), min_size=1, max_size=NAME_BYTES)
LONG = ROLES.map(lambda end: ("soma_" + "x" * NAME_BYTES + end)[-NAME_BYTES:])


@given(ROLES | LONG, ROLES | LONG, *[st.sampled_from(PURPOSES)] * 2)
def test_another_role_or_purpose_has_another_name(
    one: str, other: str, its: Purpose, others: Purpose
) -> None:
    names = {policy_of(one, its), policy_of(other, others), policy_of(policy_of(one, its), its)}
    assert len(names) == len({(its, one), (others, other), (its, policy_of(one, its))})
    assert all(len(name.encode()) <= NAME_BYTES for name in names)


def test_a_name_with_room_is_what_it_was() -> None:
    assert policy_of("acme_reports", "reader") == "reader acme_reports"
