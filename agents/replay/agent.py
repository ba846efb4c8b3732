"""soma.admin.replay -> soma.admin.replay.status: which jobs there are, and what is wanted of each.

A job's id stands where other processors have a tenant. What a command says is checked as far as it
can be without looking at the broker; jobs are run by the service (service.py), which reads the rows
that this processor keeps, in soma.replay.state.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.engine.answer import Answer
from agents.engine.reasons import CONTROL_REFUSED, NAMES
from agents.kit import Emit, Reads, RowProcessor
from agents.replay.command import TYPES, Command
from agents.replay.modes import refusal_of

if TYPE_CHECKING:
    from agents.engine.dead_letters import Letter

COMMANDS = "soma.admin.replay"
STATUS = "soma.admin.replay.status"
JOBS = "soma.replay.jobs"
AUDIT = "soma.audit"
STATUS_SCHEMA = "replay_status"

ID_BYTES = 128  # of a key, in an answer to what is no command
RUN, PAUSE, STOP = "run", "pause", "stop"
WANTED = {"start": RUN, "resume": RUN, "pause": PAUSE, "stop": STOP}


@dataclass(slots=True)
class Job:
    """What is wanted of a job. One whose `body` is empty was never accepted, and isn't kept."""

    body: str = ""  # the start command, as Command.body has it
    wanted: str = ""  # run, pause or stop; stop is for good
    asked: int = 0  # questions for its status so far: the service answers each
    accepted: int = 0  # log time, microseconds
    actor: str = ""  # who started it


def obey(row: Job, record: Any, out: Emit) -> None:
    """Take a command, or say why not."""
    if (why := _refusal(row, record)) is not None:
        _tell(record, "refused", why, out)
        if not row.body:
            out.forget()
            return
        row.asked += 1  # what is seen last of a job is how it is, not what was refused beside it
        return
    if record.type == "start" and not row.body:
        row.body, row.wanted = Command.of(record).body, RUN
        row.accepted, row.actor = record.log_ms * 1000, record.actor
        _tell(record, "accepted", "", out)
        return
    if record.type != "start":
        row.wanted = WANTED.get(record.type, row.wanted)
    row.asked += 1


def _refusal(row: Job, record: Any) -> str | None:
    if record.type not in TYPES:
        return f"there is no type {record.type!r}; there are {', '.join(TYPES)}"
    if record.type != "start":
        if not row.body:
            return f"there is no job {record.id} to {record.type}"
        if row.wanted == STOP and record.type in ("pause", "resume"):
            return "it was stopped, which is for good: start another"
        return None
    command = Command.of(record)
    if row.body:
        other = command.body != row.body
        return "a job of this id was started with another body" if other else None
    return refusal_of(command, record.log_ms * 1000)


def _tell(record: Any, state: str, message: str, out: Emit) -> None:
    now = record.log_ms * 1000
    out.to(STATUS, {
        "id": record.id, "state": state, "ts": now, "message": message, "mode": record.mode,
        "finished": now if state == "refused" else None,
    })  # fmt: skip


def unread(letter: "Letter") -> Answer | None:
    """Answer what is no command: refused, with the reason that its dead letter has.

    Its key is taken for the job's id. The answer has another key, the record's place: a job's own
    status is kept by its id, and isn't to be compacted away by what was refused beside it.
    """
    if letter.reason == NAMES[CONTROL_REFUSED]:
        return None  # a setting
    now = letter.log_ms * 1000
    key = (letter.key or b"")[:ID_BYTES].decode("utf-8", "backslashreplace")
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in key)
    return Answer(STATUS, letter.origin.encode(), {
        "id": shown or letter.origin, "state": "refused", "ts": now, "mode": "",
        "message": f"{letter.reason}: {letter.detail}", "finished": now,
    })  # fmt: skip


PROCESSOR = RowProcessor(
    "replay", source=COMMANDS, sinks=(STATUS,), row=Job, fold=obey, unread=unread,
    reads=Reads(
        tenant="id", domain=None, ts=None, strings={"since": 10_000, "until": 10_000},
    ),
)  # fmt: skip
