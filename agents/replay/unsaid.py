"""What a rebuild that is stopped has done by then, though no step of it came to say so."""

from collections.abc import Mapping
from typing import Any

from agents.engine.errors import Stopped
from agents.engine.rebuilds import rebuilds_since
from agents.engine.registry import processors
from agents.history.errors import HistoryError
from agents.history.plans import plan_of
from agents.replay.switch import Switch
from agents.settings import Settings


def unsaid(settings: Settings, job: str, said: Mapping[str, Any]) -> str:
    """What a job that is stopped has put in place without a step that said so; "" for nothing.

    `said`: of its plan. In a thread. KafkaException, BrokerError.
    """
    if not said.get("apply") or said["dry_run"]:
        return ""
    at = next((int(text) for text in said["ranges"] if text not in said["partitions"]), None)
    if at is None:
        return ""
    try:
        plan = plan_of(settings, processors([said["target"]])[said["target"]])
        switch = Switch(settings, plan, at, job, said)
        mine = [one for one in rebuilds_since(settings, plan, at, 0)[0] if switch.was_it(one)]
    except (HistoryError, Stopped) as error:
        return f"whether partition {at} was put in place can't be told: {error}"
    if not mine:
        return ""
    return (
        f"partition {at} was put in place before it stopped, to offset {mine[-1].next_offset}: "
        f"{mine[-1].rows:,} rows are written"
    )
