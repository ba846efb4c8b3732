import math

import pytest

from agents.tools.machine import DIM, DOMAINS, TENANTS, Machine
from topics import codec


def test_every_tenant_is_seen_through_every_domain_at_one_time() -> None:
    seen = Machine().sample()
    assert [(one.tenant, one.domain) for one in seen] == [(t, d) for t in TENANTS for d in DOMAINS]
    assert len({one.ts for one in seen}) == 1
    assert all(len(one.vector) == DIM for one in seen)
    assert all(math.isfinite(x) for one in seen for x in one.vector)


def test_shares_are_shares() -> None:
    machine = Machine()
    for _ in range(3):
        for one in machine.sample():
            if one.domain == "state" and one.tenant in ("cpu", "memory"):
                assert all(0.0 <= x <= 1.0 for x in one.vector), one


def test_action_is_the_change_of_state() -> None:
    machine = Machine(["memory", "cpu"])
    first = {(one.tenant, one.domain): one.vector for one in machine.sample()}
    assert set(first["memory", "action"]) == {0.0}, "nothing came before the first sample"
    second = {(one.tenant, one.domain): one.vector for one in machine.sample()}
    for tenant in ("memory", "cpu"):
        pairs = zip(second[tenant, "state"], first[tenant, "state"], strict=True)
        assert tuple(a - b for a, b in pairs) == second[tenant, "action"]


def test_an_unknown_tenant_is_named() -> None:
    with pytest.raises(ValueError, match=r"gpu \(known: cpu, memory, disk, network\)"):
        Machine(["cpu", "gpu"])


def test_an_observation_is_a_record_of_the_topic() -> None:
    for one in Machine().sample():
        name, record = codec.decode(
            codec.encode("observation", codec.from_json("observation", one.record()))
        )
        assert name == "observation"
        assert (record["tenant"], record["ts"]) == (one.tenant, one.ts)
        assert len(record["vector"]) == 4 * DIM
