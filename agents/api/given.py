"""What the bodies of requests may give: as the OpenAPI document says it, and nothing made of it."""

from typing import Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAMES_MAX = 32  # of one object: each that is unknown would be named


class Given(BaseModel):
    """A body: no name is passed over."""

    model_config = ConfigDict(extra="forbid")

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
