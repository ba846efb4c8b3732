"""/rho: density matrices by compare-and-set, as octets (their envelope) or as JSON."""

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Depends, Path, Query, Response
from numpy.typing import NDArray
from pydantic import ValidationError

from agents.api.bodies import TOKEN_BYTES, StrictRequest, StrictRoute, media_type, parse
from agents.api.callers import Caller, tenant_of
from agents.api.dependencies import (
    IdempotencyKey,
    Resources,
    ResourcesDep,
    TenantHeader,
    WriterCaller,
    caller_of,
)
from agents.api.permission import MayI
from agents.api.problems import Problem, documented, invalid
from agents.api.rho_models import CRC, CRC_TOLD, CommitOut, CommitsIn, MatrixIn, MatrixOut
from agents.api.writing import PENDING_S, RETRY_S
from agents.rho.envelope import MEDIA_TYPE, VERSION_MAX, BadEnvelope, bytes_of, unpack
from agents.rho.law import IdempotencyMismatch, InvariantViolation, VersionConflict, trace_error
from agents.rho.matrices import (
    EXPECTED_MAX,
    KEY,
    Behind,
    Committed,
    Held,
    Proposal,
    Refused,
    prepare,
)
from stores.errors import StoreDown
from stores.outbox_types import TooManyPending

JSON = "application/json"
ACTION = "rho"  # as a policy hears of a commit
logger = logging.getLogger(__name__)


class MatrixRequest(StrictRequest):
    """One whose body may be a matrix' octets."""

    takes = (MEDIA_TYPE, JSON)

    def most(self) -> int:
        """An envelope of the largest matrix; JSON as everywhere."""
        if media_type(self) != MEDIA_TYPE:
            return super().most()
        return bytes_of(self._rows())

    def too_large(self) -> Problem:
        """In rows, too."""
        found = super().too_large()
        rows = self._rows()
        found.detail += f" Matrices have at most {rows} × {rows} numbers."
        return found

    def _rows(self) -> int:
        rows: int = self.app.state.settings.rho.dimension_max
        return rows


class MatrixRoute(StrictRoute):
    """A route that takes matrices."""

    request_class = MatrixRequest


router = APIRouter(route_class=MatrixRoute, tags=["rho"])
several = APIRouter(route_class=StrictRoute, tags=["rho"])
KeyPath = Annotated[str, Path(pattern=KEY, description="of the matrix, within its tenant")]
OCTETS = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "required": True,
    "content": {MEDIA_TYPE: OCTETS, JSON: {"schema": MatrixIn.model_json_schema()}},
}
RESPONSES: dict[int | str, dict[str, Any]] = documented(400, 408, 409, 413, 415)


class Committing:
    """A commit of one request."""

    def __init__(
        self, request: StrictRequest, resources: ResourcesDep, caller: WriterCaller,
        idempotency_key: IdempotencyKey, may: MayI, tenant: TenantHeader = None,
    ) -> None:  # fmt: skip
        self.request, self._may = request, may
        self._resources, self._idempotency_key = resources, idempotency_key
        self._whose = caller.must_cover(tenant_of(tenant))

    async def do(self, proposals: Callable[[], Sequence[Proposal]], size: int) -> CommitOut:
        """Commit what is proposed, made of `size` bytes of body: in a thread if these are many."""
        self._resources.take(self._whose, 1 + size // TOKEN_BYTES)
        most: int = self.request.app.state.settings.rho.dimension_max
        found = await self.request.aside(lambda: prepare(self._whose, proposals(), most))
        done: Committed | Refused | InvariantViolation
        if isinstance(found, InvariantViolation):
            done = found
        else:
            await self._may.ask(ACTION, self._whose)
            try:
                done = await self._resources.matrices.commit(
                    self._whose, found, self._idempotency_key
                )
            except TooManyPending:
                many = "The tenant has as many events pending as it may: each commit is one."
                raise Problem(429, many, PENDING_S) from None
        name = done.ok.name if isinstance(done, Committed) else done.name
        self._resources.metrics.rho_commits.labels(name).inc()
        if not isinstance(done, Committed):
            raise _problem(done)
        return CommitOut(
            result=name, tenant=self._whose, versions=done.ok.versions,
            crcs=done.ok.crcs, repeated=done.ok.repeated, cached=done.cached,
        )  # fmt: skip


ToCommit = Annotated[Committing, Depends()]


@router.put(
    "/rho/{key}",
    response_model=CommitOut,
    responses=RESPONSES,
    openapi_extra={"requestBody": BODY},
    summary="Commit a matrix",
)
async def put(
    committing: ToCommit,
    key: KeyPath,
    expected_version: Annotated[
        int, Query(ge=0, le=EXPECTED_MAX, description="which it replaces; 0: there is none")
    ],
    expected_crc: Annotated[str | None, Query(pattern=CRC, description=CRC_TOLD)] = None,
) -> CommitOut:
    """The next version, if the one that is there is `expected_version`. A density matrix: float64,
    square, symmetric, positive semidefinite, of trace 1. An envelope's own version isn't looked at.
    """
    data, kind = await committing.request.body(), media_type(committing.request)
    return await committing.do(
        lambda: [Proposal(key, expected_version, _numbers(data, kind), expected_crc)], len(data)
    )


@several.post(
    "/rho",
    response_model=CommitOut,
    responses=documented(400, 408, 409, 413, 415),
    summary="Commit several matrices",
)
async def commit(committing: ToCommit, body: CommitsIn) -> CommitOut:
    """All of them, or none."""
    return await committing.do(body.proposals, 0)  # its bytes are paid for


@router.get(
    "/rho/{key}",
    response_model=MatrixOut,
    responses={
        200: {"content": {MEDIA_TYPE: OCTETS}, "description": "As `Accept` wants it; else JSON."},
        **documented(404, 409),
    },
    summary="Read a matrix",
)
async def get(
    request: StrictRequest,
    resources: ResourcesDep,
    caller: Annotated[Caller, Depends(caller_of)],
    key: KeyPath,
    min_version: Annotated[
        int, Query(ge=0, le=VERSION_MAX, description="an older one won't do; 0: any will")
    ] = 0,
    tenant: TenantHeader = None,
) -> Response:
    """From Redis, else from PostgreSQL. Without `min_version` a version may be given that was
    replaced within SOMA_RHO__CACHE_S, where Redis missed a commit (`cached` in its answer).
    """
    caller.must_have("read")
    whose = caller.must_cover(tenant_of(tenant))
    resources.take(whose)
    held = await _read(resources, whose, key, min_version)
    resources.metrics.rho_reads.labels(held.source).inc()
    named = {
        "X-Rho-Version": str(held.envelope.version), "X-Rho-Crc": held.crc,
        "X-Rho-Source": held.source,
    }  # fmt: skip
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return Response(held.data, media_type=MEDIA_TYPE, headers=named)
    shown = {
        "tenant": whose, "key": key, "version": held.envelope.version, "crc": held.crc,
        "source": held.source, "trace_error": trace_error(held.envelope.matrix),
        "matrix": held.envelope.matrix,
    }  # fmt: skip
    text = await resources.offload.do(
        whose, len(held.data), lambda: orjson.dumps(shown, option=orjson.OPT_SERIALIZE_NUMPY)
    )
    return Response(text, media_type=JSON, headers=named)


async def _read(resources: Resources, whose: str, key: str, min_version: int) -> Held:
    try:
        found = await resources.matrices.read(whose, key, min_version)
    except StoreDown as error:
        logger.warning("A matrix of %s isn't read: %s", whose, error)
        raise Problem(503, f"Redis doesn't have it, and {error}.", RETRY_S) from None
    except BadEnvelope as error:
        logger.error("The matrix %s of %s is damaged in PostgreSQL: %s", key, whose, error)
        raise Problem(500, "The matrix is damaged where it is kept.") from None
    if not isinstance(found, Behind):
        return found
    if found.current:
        older = f"It is at version {found.current}."
        if min_version:
            older += " Who saw a later one saw what PostgreSQL lost when it went back in time."
        raise Problem(409, older, result="VERSION_CONFLICT", key=key, current=found.current)
    raise Problem(404, "There is no such matrix.")


def _numbers(data: bytes, kind: str) -> NDArray[np.float64]:
    """The matrix of a body; `Problem` 400, 422."""
    if kind == MEDIA_TYPE:
        try:
            return unpack(data).matrix
        except BadEnvelope as error:
            raise Problem(422, f"The body is no envelope: {error}.") from None
    try:
        return MatrixIn.model_validate(parse(data)).numbers()
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False, include_input=False)
        raise invalid({**one, "loc": ("body", *one["loc"])} for one in errors) from None


def _problem(refused: Refused | InvariantViolation) -> Problem:
    match refused:
        case InvariantViolation(which, detail, key):
            told = f"The matrix {key} is refused ({which}): {detail}."
            return Problem(422, told, result=refused.name, which=which, key=key)
        case VersionConflict(key, current, lost):
            problem = Problem(409, refused.told, result=refused.name, key=key, current=current)
            problem.more |= {"lost": True} if lost else {}
            return problem
        case IdempotencyMismatch():
            told = "The idempotency key was used for another commit; nothing was committed."
            return Problem(409, told, result=refused.name)
    logger.warning("A commit of matrices isn't answered: %s", refused.detail)
    told = f"{refused.detail}. What was sent may or may not be committed."
    return Problem(503, told, RETRY_S, result=refused.name)
