"""Which other jobs there are: of two rebuilds of one processor or projection, or two redrives of
one topic's letters, the first one accepted runs.
"""

from agents.history.errors import HistoryError
from agents.replay import jobs
from agents.replay.agent import STOP
from agents.replay.command import Command
from agents.replay.jobs import STATE, Wanted
from agents.replay.modes import PROJECTION
from agents.settings import Settings
from topics.broker import connect, look
from topics.partition import partition_of

NOBODY = Wanted("", "", 0, 0)
BEING = {"rebuild": "rebuilt", "redrive": "redriven", PROJECTION: "made anew"}
DRY = ("redrive", PROJECTION)  # modes whose dry runs are in nobody's way


def own_row(settings: Settings, job: str, mode: str, of: str) -> Wanted:
    """The row of a job of a mode: a rebuild of a processor, a redrive of a topic's letters, …

    HistoryError names another that does the same, and was accepted before. KafkaException,
    BrokerError, UnknownVersion.
    """
    topic = settings.topic(STATE)
    wanted: dict[str, Wanted] = {}
    over: set[str] = set()
    for partition in range(look(connect(settings.librdkafka()), [topic])[topic].partitions):
        found = jobs.load(settings, partition)
        wanted |= found.wanted
        over |= {name for name, one in found.status.items() if one.over}
    mine = wanted.get(job, NOBODY)
    for name, row in wanted.items():
        if name in over or row.wanted == STOP or not _does(row, mode, of):
            continue
        if (row.accepted, name) < (mine.accepted, job):
            raise HistoryError(f"{of} is being {BEING[mode]} by {name}: wait for it, or stop it")
    return mine


def row_of(settings: Settings, job: str) -> Wanted:
    """The row of a job. KafkaException, BrokerError, UnknownVersion."""
    topic = settings.topic(STATE)
    partitions = look(connect(settings.librdkafka()), [topic])[topic].partitions
    return jobs.load(settings, partition_of(job, partitions)).wanted.get(job, NOBODY)


def _does(row: Wanted, mode: str, of: str) -> bool:
    try:
        command = Command.read(row.body)
    except ValueError:
        return False  # of a newer version
    if command.mode != mode or (mode in DRY and command.dry_run):
        return False
    return of in (command.target, command.source)
