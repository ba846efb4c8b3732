"""Which topics take events from tenants."""

import pytest

from agents.api.events import schema_for
from agents.api.problems import Problem
from topics.catalogue import CATALOGUE


def test_a_tenant_s_events_go_to_topics_of_tenants_only() -> None:
    assert schema_for("cog.observations") == "observation"
    for name, topic in CATALOGUE.items():
        if not topic.of_tenants:
            with pytest.raises(Problem) as refused:
                schema_for(name)
            assert refused.value.status_code == 403, name
    assert CATALOGUE["soma.admin.replay"].public, "its commands are of all tenants: operators'"
