"""Which other jobs there are: of two rebuilds of one processor or projection, or two redrives of
one topic's letters, the first one accepted runs; and so of a redrive and a rebuild that is put in
place, where its processor reads that topic. A rehearsal is nobody's rival.
"""

from agents.dlq.law import folders_of
from agents.engine.registry import processor_names
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
REBUILD, REDRIVE = "rebuild", "redrive"
SAME = {  # the field that names what two of one mode would both do, and what they do with it
    REBUILD: ("target", "rebuilt"), REDRIVE: ("source", "redriven"),
    PROJECTION: ("target", "made anew"),
}  # fmt: skip


def said_by(row: Wanted) -> str:
    """Who started a job, as audits and marks have it.

    A command says so itself, and whoever may write its topic can say anything. Whom the HTTP API
    let in stands in its own audit, in PostgreSQL, beside the job's id.
    """
    return f"said to be {row.actor}" if row.actor else "nobody named"


def own_row(settings: Settings, job: str, command: Command) -> Wanted:
    """The row of a job that rebuilds, redrives or makes a projection anew.

    HistoryError names a rival that was accepted before. KafkaException, BrokerError,
    UnknownVersion.
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
        if name in over or row.wanted == STOP or (row.accepted, name) >= (mine.accepted, job):
            continue
        if said := rivalry(command, _command(row)):
            raise HistoryError(f"{said} by {name}: wait for it, or stop it")
    return mine


def row_of(settings: Settings, job: str) -> Wanted:
    """The row of a job. KafkaException, BrokerError, UnknownVersion."""
    topic = settings.topic(STATE)
    partitions = look(connect(settings.librdkafka()), [topic])[topic].partitions
    return jobs.load(settings, partition_of(job, partitions)).wanted.get(job, NOBODY)


def rivalry(mine: Command, other: Command) -> str:
    """What another job does that this one must not meet, in words; empty: they don't mind."""
    if mine.dry_run or other.dry_run:
        return ""
    modes = mine.mode, other.mode
    if mine.mode == other.mode and mine.mode in SAME:
        of, word = SAME[mine.mode]
        name = getattr(other, of)
        return f"{name} is being {word}" if getattr(mine, of) == name else ""
    if modes == (REDRIVE, REBUILD) and _meet(mine, other):
        return f"{other.target}, which reads {mine.source}, is being rebuilt"
    if modes == (REBUILD, REDRIVE) and _meet(other, mine):
        return f"{other.source}, which {mine.target} reads, is being redriven"
    return ""


def _meet(redrive: Command, rebuild: Command) -> bool:
    """Whether a redriven record may be in the state that is put in place."""
    return rebuild.apply and rebuild.target in folders_of(redrive.source, processor_names())


def _command(row: Wanted) -> Command:
    try:
        return Command.read(row.body)
    except ValueError:
        return Command()  # of a newer version
