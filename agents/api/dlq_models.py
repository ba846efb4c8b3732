"""What /admin/dlq takes and answers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from agents.api.body_models import BodyModel, Time, at_most
from agents.dlq.letters import MOST

PLACES_MAX = 1000
FIELDS_MAX = 32

Tenant = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")]
Name = Annotated[str, Field(min_length=1, max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
Reason = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,100}$")]
Place = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}/[0-9]{1,9}/[0-9]{1,18}$")]
Status = Literal["open", "parked", "redriven", "dropped"]


class Known(BaseModel):
    """What every answer says of a letter."""

    model_config = ConfigDict(from_attributes=True)

    place: str = Field(description="the letter's topic/partition/offset")
    reason: str = Field(description="`foreign`: not a letter of ours")
    detail: str
    tenant: str = Field(description="empty if nothing says whose it is")
    processor: str
    origin: str = Field(description="the record's topic/partition/offset")
    status: Status
    attempts: int = Field(description="how often the record was tried")
    first_failed_ms: int
    failed_ms: int


class LetterOut(Known):
    """One dead letter."""

    topic: str = Field(description="where the record failed")
    bytes: int
    key: str


class LettersOut(BaseModel):
    """A page of letters, the oldest first."""

    letters: list[LetterOut]
    cursor: str | None = Field(description="for the next page; null: there is none")


class ShownOut(Known):
    """A dead letter with its record. Bytes that aren't UTF-8 are `base64:…`."""

    fields: list[str] = Field(description="those of the record that are wrong, where it is told")
    still_wrong: str = Field(description="why this version would refuse it too; empty: it wouldn't")
    advice: str = Field(description="how to mend it")
    key: str | None
    headers: dict[str, str | None]
    schema_: str = Field(alias="schema", description="by which the record was read")
    record: dict[str, Any] | None = Field(description="as far as it can be read")
    value: str | None = Field(None, description="of a record that can't be read")


class CountOut(BaseModel):
    """Letters of one topic and reason."""

    topic: str
    reason: str
    letters: int
    open: int
    parked: int
    redriven: int
    dropped: int
    oldest_ms: int = Field(description="when the oldest failed first")
    newest_ms: int
    tenants: dict[str, int] = Field(description="those that have the most")


class CountsOut(BaseModel):
    """How many letters there are, the most first."""

    counts: list[CountOut]


class ChosenIn(BodyModel):
    """Which letters: places, or what chooses among all; one of them at least."""

    places: Annotated[list[Place], at_most(PLACES_MAX)] = Field([], max_length=PLACES_MAX)
    topic: Name | None = None
    reason: Reason | None = None
    tenant: Tenant | None = None
    since: Time | None = Field(None, description="written at this log time or later")
    until: Time | None = Field(None, description="written before this log time")
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
    dry_run: bool = Field(False, description="say what would be done, and do nothing")


class RedriveIn(ChosenIn):
    """Which letters' records go to their topic again, and how."""

    set: Annotated[dict[str, Any], at_most(FIELDS_MAX)] = Field(
        {}, description="fields to change first, by the topic's schema"
    )
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = MOST


class DropIn(ChosenIn):
    """Which letters are given up."""

    confirm: bool = Field(False, description="true: they may be given up for good")


class NamedOut(BaseModel):
    """A letter of which nothing became."""

    place: str
    why: str
    said: str


class DoneOut(BaseModel):
    """What became of the letters; of a dry run, what would."""

    places: list[str] = Field(description="sent or dropped, the first 1,000")
    bytes: int
    refused: dict[str, int] = Field(description="how many, by why")
    named: list[NamedOut] = Field(description="refused and parked, the first 1,000")
    more: bool = Field(description="the limit, or the time, was reached: ask again")


class RedrivenOut(DoneOut):
    """What was sent."""

    sent: int
    mended: int
    parked: int


class DroppedOut(DoneOut):
    """What was given up."""

    dropped: int
