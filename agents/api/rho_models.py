"""The bodies of ρ: a matrix as rows of numbers, or as its envelope in base64."""

import base64
import binascii
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from agents.api.body_models import BodyModel, at_most
from agents.rho.envelope import VERSION_MAX, BadEnvelope, unpack
from agents.rho.matrices import EXPECTED_MAX, KEY, KEYS_MAX, Proposal

_KINDS = {int, float}  # of a JSON number; true is none


def rows_of(given: Any) -> NDArray[np.float64]:
    """The matrix of lists of numbers, all of one length. (At the first that is wrong it ends: one
    error, not a million.)"""
    width = len(given[0]) if isinstance(given, list) and given and isinstance(given[0], list) else 0
    if not width:
        raise PydanticCustomError("matrix", "isn't a list of rows, each a list of numbers")
    for n, row in enumerate(given):
        if not isinstance(row, list) or len(row) != width or not _KINDS.issuperset(map(type, row)):
            told = "row {n} isn't {width} numbers, as the first is"
            raise PydanticCustomError("matrix", told, {"n": n, "width": width})
    try:
        return np.array(given, np.float64)
    except OverflowError:
        told = "a number is larger than float64 holds"
        raise PydanticCustomError("matrix", told) from None


def unpacked(text: str) -> NDArray[np.float64]:
    """The matrix of an envelope in base64."""
    try:
        return unpack(base64.b64decode(text, validate=True)).matrix
    except (BadEnvelope, binascii.Error, ValueError) as error:
        raise PydanticCustomError("envelope", "{why}", {"why": str(error)}) from None


Rows = Annotated[
    Any,
    AfterValidator(rows_of),
    WithJsonSchema({"type": "array", "items": {"type": "array", "items": {"type": "number"}}}),
]
Packed = Annotated[
    str, AfterValidator(unpacked), WithJsonSchema({"type": "string", "format": "byte"})
]
Key = Annotated[str, Field(pattern=KEY)]
Expected = Annotated[
    int,
    Field(ge=0, le=EXPECTED_MAX, description="The version that it replaces; 0: there is none."),
]
CRC = r"^[0-9a-f]{8}$"
CRC_TOLD = (
    "The CRC of the version that it replaces, as it was read: where PostgreSQL went back in time "
    "since, and gave its number to another matrix, nothing is committed."
)


class MatrixIn(BodyModel):
    """A matrix: one of the two. Beyond some hundred rows JSON is too long: send octets."""

    matrix: Rows | None = Field(None, description="row by row")
    envelope: Packed | None = Field(None, description="as octets have it, in base64")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.matrix is None) is (self.envelope is None):
            raise PydanticCustomError("matrix", "give either a matrix or an envelope")
        return self

    def numbers(self) -> NDArray[np.float64]:
        """The matrix, however it came."""
        found: NDArray[np.float64] = self.matrix if self.envelope is None else self.envelope  # type: ignore[assignment]
        return found


class CommitIn(MatrixIn):
    """One of several matrices."""

    key: Key
    expected_version: Expected
    expected_crc: Annotated[str, Field(pattern=CRC)] | None = Field(None, description=CRC_TOLD)


class CommitsIn(BodyModel):
    """Several matrices, all or none."""

    commits: Annotated[list[CommitIn], at_most(KEYS_MAX)] = Field(
        min_length=1, max_length=KEYS_MAX, description="each of another key"
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if len({one.key for one in self.commits}) < len(self.commits):
            raise PydanticCustomError("key", "a key is there twice")
        return self

    def proposals(self) -> list[Proposal]:
        """What is to be committed."""
        return [
            Proposal(one.key, one.expected_version, one.numbers(), one.expected_crc)
            for one in self.commits
        ]


class CommitOut(BaseModel):
    """All matrices are committed, and rho.status tells of each."""

    result: str = Field(examples=["OK"])
    tenant: str
    versions: dict[str, int] = Field(description="key -> version")
    crcs: dict[str, str] = Field(description="key -> CRC of its envelope, for `expected_crc`")
    repeated: bool = Field(description="they were before, by the same idempotency key")
    cached: bool = Field(
        description="Redis has them. Where not, reads may give an older version for "
        "SOMA_RHO__CACHE_S, unless they say min_version"
    )


class MatrixOut(BaseModel):
    """A matrix as JSON."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    tenant: str
    key: str
    version: int = Field(ge=1, le=VERSION_MAX)
    crc: str = Field(description="of its envelope, for `expected_crc`", examples=["1f0c93ab"])
    source: str = Field(examples=["redis", "postgres"])
    trace_error: float
    matrix: list[list[float]]
