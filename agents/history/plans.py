"""A processor's plan, by what the broker has of its topics."""

from agents.engine.plan import EPOCHS, Plan
from agents.engine.processor import Processor
from agents.history.errors import HistoryError
from agents.settings import Settings
from topics.broker import connect, look
from topics.catalogue import CATALOGUE, keeper_of
from topics.topic import snapshots_of


def plan_of(settings: Settings, processor: Processor) -> Plan:
    """The plan, with as many partitions as the source has. BrokerError; HistoryError names the
    topics that aren't there.
    """
    names = [processor.source, processor.state_topic, EPOCHS, snapshots_of(processor.name)]
    wanted = [settings.topic(name) for name in names if name in CATALOGUE]
    found = look(connect(settings.librdkafka()), wanted)
    if missing := [name for name in wanted if name not in found]:
        listed = ", ".join(missing)
        raise HistoryError(
            f"The broker has no topic {listed}: create the topics with `soma topics apply`."
        )
    keeper = keeper_of(processor.source) == processor.name
    return Plan(processor, settings, found[wanted[0]].partitions, keeper)
