"""What the models of requests' bodies have in common: strict types, times, limits of lengths."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAMES_MAX = 32  # of one object: each that is unknown would be named
_DATE = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")


class BodyModel(BaseModel):
    """A body: true is no number, "1" neither, and no name is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _few_names(cls, given: Any) -> Any:
        return _few(given, NAMES_MAX)


def at_most(most: int) -> BeforeValidator:
    """Looks at the number of items first: pydantic does only after each of a million is wrong."""
    return BeforeValidator(lambda given: _few(given, most))


def short_of(most: int) -> AfterValidator:
    """A text's length as UTF-8, which may be four times that in characters."""

    def short(given: str) -> str:
        if (found := len(given.encode())) > most:
            said = {"most": most, "found": found}
            raise PydanticCustomError("too_long", "has {found} bytes, at most {most}", said)
        return given

    return AfterValidator(short)


def _few(given: Any, most: int) -> Any:
    if isinstance(given, dict | list) and len(given) > most:
        said = {"most": most, "found": len(given)}
        raise PydanticCustomError("too_long", "at most {most} are taken, not {found}", said)
    return given


def _iso(given: Any) -> Any:
    if not isinstance(given, str) or not _DATE.match(given):
        raise PydanticCustomError("time", "isn't ISO 8601 text, as 2026-01-31T12:00:00Z is")
    return given


def _utc(given: datetime) -> datetime:
    try:
        return given.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time", "isn't within the years 1-9999 of UTC") from None


Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_iso), AfterValidator(_utc)]
