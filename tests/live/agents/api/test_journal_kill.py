"""PostgreSQL killed, and the API killed meanwhile and once more while it drains: nothing lost.

The short form of `python -m ops.prove.journal`.
"""

import asyncio

from ops.prove.journal import Options, prove
from tests.live.agents.api.conftest import OwnPostgres


def test_what_was_acknowledged_arrives_once_and_in_order(postgres: OwnPostgres) -> None:
    options = Options(rate=300.0, writers=20, before_s=0.5, outage_s=4.0, after_s=1.0, kills=2)
    report = asyncio.run(prove(postgres.stack, postgres.settings, options))
    assert (report.missing, report.doubled, report.inversions) == (0, 0, 0), report
    assert report.proved, report
